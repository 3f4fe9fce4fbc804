//! `bakfs completions` and `bakfs man`: generated from the command line's own definition.

use super::{Cli, Status};
use crate::error::Context;
use clap::CommandFactory;
use std::io::Write;
use std::path::PathBuf;

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
    std::io::stdout().lock().write_all(&script)?;
    Ok(Status::Done)
}

/// Runs `bakfs man`.
pub fn man(args: &ManArgs) -> anyhow::Result<Status> {
    match &args.folder {
        Some(folder) => {
            let writing = || format!("Cannot write the manual pages to {}", folder.display());
            crate::trust::folder::make(folder, crate::trust::folder::PUBLIC).context(writing)?;
            clap_mangen::generate_to(Cli::command(), folder).context(writing)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            std::io::stdout().lock().write_all(&page)?;
        }
    }
    Ok(Status::Done)
}
