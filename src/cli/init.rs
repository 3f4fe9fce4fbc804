//! `bakfs init`: makes a repository.

use super::Status;
use super::open::Global;
use super::output::{readable, readable_path};
use crate::access::Access;
use crate::access::make::Made;
use crate::format::header::Suite;
use clap::ValueEnum;

/// Options of `bakfs init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to protect what is stored; `none` still notices every change
    #[arg(long, value_enum, default_value_t = Encryption::Aes256)]
    encryption: Encryption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encryption {
    /// AES-256-GCM-SIV
    Aes256,
    /// Readable by whoever reads the repository's folder
    None,
}

/// Tells a person what was made and what to keep.
pub fn tell(access: &Access, made: &Made) {
    // It was made there.
    let place = access.place().map(|place| place.to_string()).unwrap_or_default();
    warn!("Made the repository {}", readable(place.as_bytes()));
    if let Some(key) = &made.key_path {
        warn!("Its key is the file {}", readable_path(key));
        warn!("Without that key nobody can read the backups: keep a copy of the file away from this machine.");
    }
    if let Some(recovery) = &made.recovery {
        warn!("Recovery key: {}", recovery.as_str());
        warn!("It opens the repository when the passphrase is lost, and is not shown again:");
        warn!("keep it on paper, away from this machine.");
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let suite = match args.encryption {
        Encryption::Aes256 => Suite::Aes256GcmSiv,
        Encryption::None => Suite::Plain,
    };
    let made = global.access.make(suite)?;
    if global.json {
        let place = global.access.place()?.to_string();
        say!(
            "{}",
            serde_json::json!({
                "repository": made.id.to_string(),
                "path": readable(place.as_bytes()),
                "key_file": made.key_path.as_deref().map(readable_path),
                "recovery_key": made.recovery.as_ref().map(|text| text.as_str()),
            })
        );
    } else {
        tell(&global.access, &made);
    }
    Ok(Status::Done)
}
