//! bakfs: backups whose history is a file system.
//!
//! A [repository](repo::Repository) in a [store](store::Store) holds snapshots. [`backup`] reads sources into a new one;
//! [`view`] shows all of them as a tree of files, which the crate `bakfs-mount` serves to the kernel, and [`serve`] keeps it
//! mounted; [`restore`], [`diff`], [`find`], [`check`], [`prune`] and [`repair`] do what their names say. [`access`] finds out
//! which repository is meant and what opens it, [`job`] makes one run of a profile. Nothing here prints but [`cli`]: a
//! [`Monitor`](monitor::Monitor) is told. docs/architecture.md is the map.
//!
//! ```
//! use bakfs::backup;
//! use bakfs::crypto::{keys::Secret, slot::Credential};
//! use bakfs::format::header::Suite;
//! use bakfs::id::RepositoryId;
//! use bakfs::monitor::Silent;
//! use bakfs::repo::{Repository, open};
//! use std::sync::Arc;
//!
//! # fn main() -> bakfs::error::Result<()> {
//! let folder = tempfile::tempdir().unwrap();
//! let (path, source) = (folder.path().join("repo"), folder.path().join("source"));
//! std::fs::create_dir(&source).unwrap();
//! std::fs::write(source.join("hello"), "hello").unwrap();
//!
//! // A repository that one key opens.
//! let key = || vec![Credential::Key(Secret([7; 32]))];
//! open::init_with_id(&path, RepositoryId([1; 16]), Suite::Aes256GcmSiv, &key())?;
//! let repository = Arc::new(Repository::open(&path, &open::Options::default(), |_| Ok(key()))?);
//!
//! // A snapshot of a folder, and what it lists.
//! let options = backup::Options { paths: vec![source.clone()], host: "here".into(), ..Default::default() };
//! let outcome = backup::run(&repository, &options, &Silent)?;
//! assert_eq!(outcome.snapshot.summary.errors, 0);
//! let snapshots = repository.snapshots()?;
//! assert_eq!(snapshots.len(), 1);
//! let hello = source.join("hello");
//! let found = repository.resolve(&snapshots[0].snapshot, hello.as_os_str().as_encoded_bytes())?;
//! assert_eq!(found.expect("it was backed up").meta.size_bytes, 5);
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod accounts;
pub mod audit;
pub mod backup;
pub mod check;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod crypto;
pub mod database;
pub mod diff;
pub mod disk;
pub mod dump;
pub mod error;
pub mod find;
pub mod format;
pub mod host;
pub mod id;
pub mod inspect;
pub mod job;
pub mod json;
pub mod known;
pub mod log;
pub mod machine;
pub mod monitor;
pub mod notify;
pub mod path;
pub mod pattern;
pub mod place;
pub mod process;
pub mod prune;
pub mod quantity;
pub mod random;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(not(feature = "remote"))]
#[path = "remote/absent.rs"]
pub mod remote;
pub mod repair;
pub mod repo;
pub mod restore;
pub mod retention;
pub mod schedule;
#[cfg(feature = "mount")]
pub mod serve;
pub mod settings;
pub mod source;
pub mod spelling;
pub mod state;
pub mod stats;
pub mod store;
pub mod text;
pub mod traffic;
pub mod trust;
pub mod variable;
pub mod version;
#[cfg(feature = "mount")]
pub mod view;
