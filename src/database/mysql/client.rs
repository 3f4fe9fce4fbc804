//! The programs of MySQL and MariaDB, which go by several names.

use crate::database::local::{folders, is_program};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Account, Program};
use crate::settings::file::Mysql;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Finds a program where a server's programs run, by one of its names.
pub fn find_for(settings: &Mysql, account: Option<&Account>, names: &[&str]) -> Result<PathBuf> {
    let bin_dir = settings.bin_dir.as_deref();
    if settings.exec.is_none() {
        return find(names, bin_dir);
    }
    let paths = names.iter().map(|name| bin_dir.map_or_else(|| name.into(), |folder| folder.join(name)));
    let mut first_error = None;
    for path in paths {
        let mut program = Program::new([path.as_os_str()]).arg("--no-defaults").arg("--version").env("LC_ALL", "C");
        program.exec = settings.exec.words();
        program.account = account.cloned();
        program.timeout = Some(Duration::from_secs(60));
        match program.answer() {
            Ok(_) => return Ok(path),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let names = names.join(" nor ");
    let message = format!("Neither {names} can be run where `exec` leads: look at `exec`, or set `bin-dir`");
    let error = Error::new(ErrorKind::NotFound, message);
    Err(match first_error {
        None => error,
        Some(cause) => error.because(cause),
    })
}

/// Finds a program of this machine by one of its names.
pub fn find(names: &[&str], bin_dir: Option<&Path>) -> Result<PathBuf> {
    let paths = names.iter().flat_map(|name| folders(bin_dir).into_iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| is_program(path)).ok_or_else(|| {
        let place = bin_dir.map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let names = names.join(" or ");
        let message = format!("There is no {names}{place}: install mariadb-client (or mysql-client), or set `bin-dir`");
        Error::new(ErrorKind::NotFound, message)
    })
}
