//! `bakfs key`: the ways into a repository.

use super::Status;
use super::open::{Global, ask};
use super::output::{json, readable_path};
use super::stdout;
use crate::access::credentials::{credential, read_passphrase, write_key};
use crate::crypto::keys::Secret;
use crate::crypto::slot::Credential;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::repo::slots::{KeySlots, require_encrypted};
use crate::text;
use clap::Subcommand;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Options of `bakfs key`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A key slot gives the repository's master key to whoever has its passphrase or key. Without its slot a \
    passphrase or key opens nothing; whoever has used it may have kept the master key, which no command changes: \
    docs/operations.md, \"Keys\", says how to go on after a theft."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the key slots, and which of them was used now
    List,
    /// Add a passphrase or a key file, for a colleague or another machine
    Add(New),
    /// Remove a key slot; the one that was used now stays
    Remove {
        /// The key slot, or the beginning of its id, as `bakfs key list` has it
        #[arg(value_name = "ID")]
        slot: String,
    },
    /// Change the passphrase: add the new one, then remove the old one
    Passwd {
        /// Read the new passphrase from a file's first line; without it, it is asked for
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// Read the new passphrase from a file's first line; without it, it is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    new_password_file: Option<PathBuf>,
    /// Make a random key and write it to a new file
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
}

/// Reads a new passphrase from a file, or asks for it twice.
fn new_passphrase(file: Option<&Path>) -> Result<Credential> {
    let text = match file {
        Some(path) => match text::refused(path) {
            Some(why) => return Err(Error::usage(format!("--new-password-file: {why}"))),
            None => read_passphrase(path, true)?,
        },
        None if std::io::stdin().is_terminal() => {
            let text = ask("New passphrase: ")?;
            if text != ask("The same again: ")? {
                return Err(Error::usage("The two passphrases differ: nothing was changed"));
            }
            text
        }
        None => return Err(Error::usage("There is no terminal to ask at: name a file by --new-password-file")),
    };
    match text.is_empty() {
        true => Err(Error::usage("The new passphrase is empty: give one with at least a character")),
        false => Ok(credential(text)),
    }
}

/// Returns what a new slot is to be opened with.
fn new_credential(global: &Global, new: &New) -> Result<Credential> {
    let Some(path) = &new.new_key_file else { return new_passphrase(new.new_password_file.as_deref()) };
    if let Some(why) = text::refused(path) {
        return Err(Error::usage(format!("--new-key-file: {why}")));
    }
    let path = std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))?;
    if global.access.place()?.folder().is_some_and(|repository| path.starts_with(repository)) {
        let message = "--new-key-file: a key does not belong into the repository that it opens: name a file elsewhere";
        return Err(Error::usage(message));
    }
    if path.exists() {
        let message = format!("--new-key-file: {} is there already: name a new file", path.display());
        return Err(Error::new(ErrorKind::Exists, message));
    }
    let key = Secret::random();
    // The key is durable before anything can be opened with it.
    write_key(&path, &key)?;
    Ok(Credential::Key(key))
}

fn list(global: &Global, slots: &KeySlots<'_>) -> anyhow::Result<()> {
    let mut out = stdout::listing(global.json);
    if global.json {
        writeln!(out, "{}", json(&slots.list()))?;
    } else {
        for slot in slots.list() {
            let used = if slot.is_given { "  used now" } else { "" };
            writeln!(out, "{}  {:10}{used}", slot.id, slot.kind())?;
        }
    }
    Ok(out.flush()?)
}

fn tell(global: &Global, what: &str, ids: &[(&str, ObjectId)]) {
    if global.json {
        let ids: serde_json::Map<_, _> = ids.iter().map(|(key, id)| (key.to_string(), id.to_hex().into())).collect();
        say!("{}", serde_json::Value::from(ids));
    } else if !global.quiet {
        say!("{what}");
    }
}

/// Changes the passphrase.
fn change(global: &Global, slots: &mut KeySlots<'_>, new: &Credential) -> Result<()> {
    let by = global.access.given_by()?;
    let old: Vec<ObjectId> = slots.list().iter().filter(|slot| slot.is_passphrase).map(|slot| slot.id).collect();
    let (added, removed) = slots.change(new)?;
    tell(global, &format!("The new passphrase opens the repository, by the key slot {added}"), &[("added", added)]);
    match (removed.is_empty(), by) {
        (true, _) if !old.is_empty() => warn!(
            "bakfs: a key was given and no passphrase, so none was removed; what the old one opens is {}: `bakfs key \
             remove ID` takes it away",
            old.iter().map(ObjectId::to_string).collect::<Vec<_>>().join(" or ")
        ),
        (false, Some(by)) => warn!(
            "bakfs: warning: what {by} gives is the old passphrase: change it there, or runs that rely on it fail"
        ),
        _ => {}
    }
    Ok(())
}

/// Adds a passphrase or key. A key file that opens nothing is not left.
fn add(global: &Global, slots: &mut KeySlots<'_>, new: &New) -> Result<ObjectId> {
    let credential = new_credential(global, new)?;
    let added = match slots.slot_of(&credential) {
        Some(id) => {
            Err(Error::new(ErrorKind::Exists, format!("It opens the repository already, by the key slot {id}")))
        }
        None => slots.add(&credential),
    };
    if let (Err(_), Some(path)) = (&added, &new.new_key_file) {
        // The failure is what is told.
        let _ = std::fs::remove_file(path);
    }
    added
}

/// Returns what on this machine gives a key slot's passphrase or key: after its end nothing more is opened by it.
fn relied_on(global: &Global, slots: &KeySlots<'_>, id: ObjectId) -> Vec<String> {
    let key_file = global.access.key_path(&slots.repository());
    let password_file = global.access.chosen().ok().and_then(|chosen| chosen.password_file);
    let files = [Some(key_file), password_file].into_iter().flatten();
    let opens = |path: &PathBuf| read_passphrase(path, true).is_ok_and(|read| slots.opens(id, &credential(read)));
    files.filter(|path| path.exists() && opens(path)).map(|path| readable_path(&path)).collect()
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    global.access.recognise()?;
    let store = global.access.store()?;
    let repository = require_encrypted(&*store)?;
    let given = global.access.credentials(&repository)?;
    let mut slots = KeySlots::open(&*store, repository, &given).map_err(|error| match error.kind() {
        ErrorKind::Locked => Error::new(ErrorKind::Locked, global.access.wrong_key(&repository)).because(error),
        _ => error,
    })?;
    for problem in slots.damaged() {
        warn!("bakfs: {problem}");
    }
    let status = if slots.damaged().is_empty() { Status::Done } else { Status::Incomplete };
    match &args.command {
        Command::List => list(global, &slots)?,
        Command::Add(new) => {
            let id = add(global, &mut slots, new)?;
            let how = new
                .new_key_file
                .as_deref()
                .map_or("The new passphrase".into(), |path| format!("The key in {}", readable_path(path)));
            tell(global, &format!("{how} opens the repository, by the key slot {id}"), &[("added", id)]);
        }
        Command::Remove { slot } => {
            let id = slots.find(slot)?;
            let relied_on = relied_on(global, &slots, id);
            slots.remove(id)?;
            for file in relied_on {
                warn!(
                    "bakfs: warning: {file} on this machine opens the repository no more, and runs that rely on it fail"
                );
            }
            tell(global, &format!("What the key slot {id} was for opens the repository no more"), &[("removed", id)]);
        }
        Command::Passwd { new_password_file } => {
            let new = new_passphrase(new_password_file.as_deref())?;
            change(global, &mut slots, &new)?;
        }
    }
    Ok(status)
}
