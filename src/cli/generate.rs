//! `bakfs completions` and `bakfs man`: generated from the command line's own definition.

use super::complete::Shell;
use super::{Cli, Status, manual, stdout};
use crate::disk::{self, Lasting};
use crate::error::{Context, Error};
use crate::text;
use crate::trust::folder;
use clap::CommandFactory;
use std::io::Write;
use std::path::PathBuf;

/// Options of `bakfs completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "As in: bakfs completions bash > /usr/share/bash-completion/completions/bakfs")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Options of `bakfs man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write all pages below this folder, to man1, man5 and man7 [default: the main page to standard output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `bakfs completions`.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<Status> {
    let mut out = stdout::whole();
    out.write_all(&args.shell.script()?)?;
    out.flush()?;
    Ok(Status::Done)
}

/// Runs `bakfs man`.
pub fn man(args: &ManArgs) -> anyhow::Result<Status> {
    if let Some(why) = args.folder.as_deref().and_then(text::refused) {
        return Err(Error::usage(format!("No pages can be written there: {why}")).into());
    }
    match &args.folder {
        Some(folder) => {
            let writing = || {
                format!(
                    "Cannot write the manual pages to {}: name a folder, which is made where it is missing",
                    folder.display()
                )
            };
            folder::make(folder, folder::PUBLIC).context(writing)?;
            for (name, page) in manual::pages(Cli::command()).context(writing)? {
                let section = folder.join(format!("man{}", name.rsplit('.').next().unwrap_or("1")));
                folder::make(&section, folder::PUBLIC).context(writing)?;
                disk::replace(&section.join(name), &page, folder::PUBLIC_FILE, Lasting::Nothing).context(writing)?;
            }
        }
        None => {
            let page = manual::main_page(Cli::command())?;
            let mut out = stdout::listing(false);
            out.write_all(&page)?;
            out.flush()?;
        }
    }
    Ok(Status::Done)
}
