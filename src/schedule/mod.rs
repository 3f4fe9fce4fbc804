//! Scheduled runs: systemd's timers, or a crontab where there is no systemd.
//!
//! [`systemd`] and [`cron`] make the texts, [`destination`] is where they are kept on this machine.

pub mod cron;
pub mod destination;
pub mod systemd;

use crate::error::{Context, Error, Result};
use crate::process::program;
use crate::settings::{Periodicity, Profile, Settings};
pub use destination::Destination;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What files begin with that bakfs writes: only such files are ever overwritten or removed.
pub const MARK: &str = "# Written by bakfs schedule install";

/// What makes runs begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Timers of systemd.
    Systemd,
    /// A crontab.
    Cron,
}

impl Manager {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Manager::Systemd => "systemd",
            Manager::Cron => "cron",
        }
    }
}

/// How runs are begun: by this very program, with this configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program's absolute path.
    pub program: String,
    /// Other paths of the same program: what begins it by one of these begins it as well.
    pub others: Vec<String>,
    /// The configuration, if not the usual one.
    pub config: Option<String>,
    /// Variables of its environment that decide what is meant.
    pub environment: Vec<(String, String)>,
    /// Further options.
    pub options: Vec<String>,
}

impl Invocation {
    /// Makes the one of a program. Paths are refused that no unit or crontab could hold.
    pub fn new(program: &Path, config: Option<&Path>) -> Result<Self> {
        let config = config.map(plain).transpose()?;
        let program = plain(program)?;
        Ok(Invocation { program, others: Vec::new(), config, environment: Vec::new(), options: Vec::new() })
    }

    /// Adds a variable, which is no secret: everybody may read units and crontabs.
    pub fn with_variable(mut self, name: &str, value: &Path) -> Result<Self> {
        let text = value.to_str().filter(|text| !text.chars().any(char::is_control));
        let Some(text) = text else {
            let message = format!("No schedule can hold {name}={value:?}: use a value that is plain UTF-8");
            return Err(Error::usage(message));
        };
        self.environment.push((name.to_string(), text.to_string()));
        Ok(self)
    }

    /// Returns whether runs have a variable.
    pub fn carries(&self, name: &str) -> bool {
        self.environment.iter().any(|(carried, _)| carried == name)
    }

    /// Adds an option.
    pub fn with_option(mut self, option: &str) -> Self {
        self.options.push(option.to_string());
        self
    }

    /// Makes the one of this process, for a configuration that was read.
    pub fn of_process(settings: &Settings) -> Result<Self> {
        let called = program::called()?;
        let config = settings.path.as_deref().map(std::path::absolute).transpose();
        let config = config.context(|| "Cannot find out where the configuration is".into())?;
        let config = config.filter(|path| Some(path) != usual_config().as_ref());
        let others = called.others.iter().filter_map(|path| plain(path).ok()).collect();
        Ok(Invocation { others, ..Invocation::new(&called.path, config.as_deref())? })
    }

    /// Returns this and the same by the program's other paths.
    pub fn ways(&self) -> Vec<Self> {
        let other = |program: &String| Invocation { program: program.clone(), ..self.clone() };
        [self.clone()].into_iter().chain(self.others.iter().map(other)).collect()
    }

    /// Says what is wrong with the program's place: a build may be cleaned away, and nothing runs from then on.
    pub fn doubt(&self) -> Option<String> {
        let folder = program::build_folder(Path::new(&self.program))?;
        let real = Path::new(&self.program).canonicalize().unwrap_or_else(|_| PathBuf::from(&self.program));
        Some(format!(
            "The program that is scheduled, {}, is in the build folder {}, and gone when that is cleaned: install it, as by \
             `install -m 755 '{}' /usr/local/bin/bakfs`, and run `/usr/local/bin/bakfs schedule install`",
            self.program,
            folder.display(),
            real.display()
        ))
    }

    /// Returns the words of `bakfs run` with further arguments.
    pub fn run(&self, arguments: &[&str]) -> Vec<String> {
        let config = self.config.iter().flat_map(|path| ["--config", path]);
        let words = [&*self.program, "run"].into_iter().chain(arguments.iter().copied()).chain(config);
        let words = words.chain(self.options.iter().map(String::as_str));
        words.map(str::to_string).collect()
    }
}

/// Returns the configuration that a scheduled run finds by itself, where no variable of a person's shell is set.
fn usual_config() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/etc/bakfs/bakfs.toml".into());
    }
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".config/bakfs/bakfs.toml"))
}

fn plain(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| path.is_absolute() && !text.chars().any(char::is_control));
    text.map(str::to_string).ok_or_else(|| {
        let message = format!("No schedule can hold the path {path:?}: use one that is absolute and plain UTF-8");
        Error::usage(message)
    })
}

/// Returns the profiles that a periodicity runs.
pub fn profiles_of(settings: &Settings, periodicity: Periodicity) -> impl Iterator<Item = &Profile> {
    settings.profiles.values().filter(move |profile| profile.schedule.contains(&periodicity))
}

/// Returns the periodicities that any profile has.
pub fn wanted(settings: &Settings) -> Vec<Periodicity> {
    let has = |periodicity: &Periodicity| profiles_of(settings, *periodicity).next().is_some();
    Periodicity::SCHEDULED.into_iter().filter(has).collect()
}

/// Whether runs begin by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Installed {
    /// They do not.
    No,
    /// They do, though not as `bakfs schedule install` would write it now.
    Outdated,
    /// They do.
    Yes,
}

/// A periodicity's schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The periodicity.
    pub periodicity: Periodicity,
    /// The profiles that have it.
    pub profiles: Vec<String>,
    /// Whether it is installed.
    pub installed: Installed,
    /// What begins its runs, where they do begin.
    pub manager: Option<Manager>,
    /// Whether what begins runs on this machine can begin these: cron knows no shutdown.
    #[serde(skip)]
    pub is_possible: bool,
}

impl Entry {
    /// Says what to do about it; `None` where it is installed as it should be.
    pub fn advice(&self) -> Option<&'static str> {
        match self.installed {
            Installed::Yes => None,
            Installed::Outdated if self.profiles.is_empty() => {
                Some("is left over, no profile has it: `bakfs schedule install` takes it away")
            }
            Installed::Outdated => Some("is outdated: run `bakfs schedule install`"),
            Installed::No if !self.is_possible => {
                Some("nothing begins these runs: cron begins none when the machine goes down, only systemd does")
            }
            Installed::No => Some("nothing begins these runs: `bakfs schedule install` does"),
        }
    }
}

/// Returns the schedule of every periodicity that a profile has or that is installed, as it is on this machine; outdated
/// is what does not begin runs as `invocation` would.
pub fn installed(settings: &Settings, invocation: &Invocation) -> Result<Vec<Entry>> {
    Destination::of_process()?.entries(settings, invocation)
}

#[cfg(test)]
pub(crate) fn example(schedule: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bakfs.toml");
    let text = format!(
        "repo = '/srv/repo'\n{schedule}\n[profile.web]\nsources = ['/srv/web']\nschedule = ['hourly', 'daily']\n\
         [profile.all]\nsources = ['/']\nschedule = ['daily', 'weekly', 'monthly', 'bimonthly', 'shutdown']\n\
         [profile.hand]\nsources = ['/opt']\n"
    );
    std::fs::write(&path, text).unwrap();
    Settings::read(&path).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_begun_by_the_program_itself_with_its_configuration() {
        let usual = Invocation::new(Path::new("/usr/bin/bakfs"), None).unwrap();
        assert_eq!(usual.run(&["--recover"]), ["/usr/bin/bakfs", "run", "--recover"]);
        let other = Invocation::new(Path::new("/usr/bin/bakfs"), Some(Path::new("/srv/b.toml"))).unwrap();
        assert_eq!(other.run(&[]), ["/usr/bin/bakfs", "run", "--config", "/srv/b.toml"]);
        for wrong in ["bakfs", "/usr/bin/a\nb", "/usr/bin/\u{7}"] {
            let error = Invocation::new(Path::new(wrong), None).unwrap_err().chain();
            assert!(error.contains("No schedule can hold the path"), "{error}");
        }
    }

    #[test]
    fn only_what_a_profile_has_is_wanted() {
        let settings = example("");
        assert_eq!(wanted(&settings), Periodicity::SCHEDULED);
        let daily: Vec<_> = profiles_of(&settings, Periodicity::Daily).map(|profile| &*profile.name).collect();
        assert_eq!(daily, ["all", "web"]);
        assert!(wanted(&Settings::default()).is_empty());
    }
}
