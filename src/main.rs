//! The `bakfs` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    bakfs::cli::main()
}
