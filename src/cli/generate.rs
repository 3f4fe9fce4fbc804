//! `bakfs completions` and `bakfs man`: generated from the command line's own definition.

use super::{Cli, Status, manual, stdout};
use crate::disk::{self, Lasting};
use crate::error::{Context, Error};
use crate::text;
use crate::trust::folder;
use clap::CommandFactory;
use std::io::Write;
use std::path::PathBuf;

/// The page of the pattern language.
const PATTERNS: &str = include_str!("../../docs/patterns.md");

/// Options of `bakfs completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "As in: bakfs completions bash > /usr/share/bash-completion/completions/bakfs")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Options of `bakfs man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write the pages of all commands to this folder [default: the main page to standard output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `bakfs completions`.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<Status> {
    // Written at once: the generator itself cannot report that the reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bakfs", &mut script);
    let mut out = stdout::whole();
    out.write_all(&script)?;
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
            // The generator leaves modes to the umask.
            let scratch = folder::scratch(".bakfs-man-", Some(folder)).context(writing)?;
            clap_mangen::generate_to(Cli::command(), &scratch).context(writing)?;
            let page =
                manual::page("bakfs-patterns", 7, "names of files that bakfs leaves out, restores or finds", PATTERNS);
            std::fs::write(scratch.path().join("bakfs-patterns.7"), page).context(writing)?;
            for page in std::fs::read_dir(&scratch).context(writing)? {
                let page = page.context(writing)?;
                let text = std::fs::read(page.path()).context(writing)?;
                disk::replace(&folder.join(page.file_name()), &text, folder::PUBLIC_FILE, Lasting::Nothing)
                    .context(writing)?;
            }
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            let mut out = stdout::listing(false);
            out.write_all(&page)?;
            out.flush()?;
        }
    }
    Ok(Status::Done)
}
