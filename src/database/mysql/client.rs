//! The programs of MySQL and MariaDB, which go by several names.

use crate::database::local::{folders, is_program};
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Finds a program by one of its names.
pub fn find(names: &[&str], bin_dir: Option<&Path>) -> Result<PathBuf> {
    let paths = names.iter().flat_map(|name| folders(bin_dir).into_iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| is_program(path)).ok_or_else(|| {
        let place = bin_dir.map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let names = names.join(" or ");
        let message = format!("There is no {names}{place}: install mariadb-client (or mysql-client), or set `bin-dir`");
        Error::new(ErrorKind::NotFound, message)
    })
}
