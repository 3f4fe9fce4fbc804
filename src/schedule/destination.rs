//! Where a schedule is kept on a machine: units and their links, a file for cron, or a user's crontab.

use super::cron::{self, Crontab, Style};
use super::{Entry, Installed, Invocation, MARK, Manager, profiles_of, systemd, wanted};
use crate::disk::{self, Lasting};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::process::{Program, failed};
use crate::settings::{Periodicity, Settings};
use crate::trust::folder;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is written below another root than `/`, where nothing is started: for tests, and for building images.
pub const ROOT_VARIABLE: &str = "BAKFS_SYSTEM_ROOT";
/// Files are read up to this length.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// No question to systemd or cron takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine's, or a user's, places for schedules.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Where systemd is expected, or the folder it is looked for in.
    system: PathBuf,
    /// Whether services may be started: not below another root.
    is_own: bool,
    /// Whether it is a user's.
    is_user: bool,
    /// The folder of units.
    units: PathBuf,
    /// Where a package has put the same units, which those of the first folder come before (systemd.unit(5)).
    packaged: Option<PathBuf>,
    /// The file for cron; `None` for the user's crontab.
    cron_file: Option<PathBuf>,
    style: Style,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was written.
    pub written: Vec<String>,
    /// What was taken away.
    pub removed: Vec<String>,
    /// What a person should know.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// How the user's crontab is called.
const CRONTAB: &str = "the user's crontab";

impl Destination {
    /// Finds the places of this process's user, or of what `BAKFS_SYSTEM_ROOT` names.
    pub fn of_process() -> Result<Self> {
        let root = std::env::var_os(ROOT_VARIABLE).map(PathBuf::from).filter(|root| !root.as_os_str().is_empty());
        if let Some(relative) = root.as_ref().filter(|root| !root.is_absolute()) {
            return Err(Error::usage(format!("{ROOT_VARIABLE}={} must be an absolute path", relative.display())));
        }
        let is_own = root.is_none();
        let system = root.unwrap_or_else(|| PathBuf::from("/"));
        let is_user = !rustix::process::geteuid().is_root();
        let units = if is_user { user_units()? } else { system.join("etc/systemd/system") };
        let packaged = (!is_user).then(|| system.join("usr/lib/systemd/system"));
        let cron_folder = system.join("etc/cron.d");
        let cron_file = (!is_user && (!is_own || cron_folder.is_dir())).then(|| cron_folder.join("bakfs"));
        let is_there = |name: &&str| ["usr/bin", "bin"].iter().any(|folder| system.join(folder).join(name).exists());
        let mut launcher = Vec::new();
        // Not class 3, `idle`: on a disk that is never idle the run would never end.
        for (name, arguments) in [("nice", &["-n", "10"][..]), ("ionice", &["-c", "2", "-n", "7"])] {
            if is_there(&name) {
                launcher.push(name.to_string());
                launcher.extend(arguments.iter().map(|argument| argument.to_string()));
            }
        }
        let style = Style { launcher, names_user: cron_file.is_some() };
        Ok(Destination { system, is_own, is_user, units, packaged, cron_file, style })
    }

    /// Returns what begins runs here if nobody says otherwise: systemd where it runs (sd_booted(3)), or where another
    /// root has it.
    pub fn usual_manager(&self) -> Manager {
        let sign = if self.is_own { "run/systemd/system" } else { "usr/lib/systemd/systemd" };
        if self.system.join(sign).exists() { Manager::Systemd } else { Manager::Cron }
    }

    /// Returns whether systemd is to be told of what has changed.
    fn is_live(&self) -> bool {
        self.is_own && self.usual_manager() == Manager::Systemd
    }

    /// Returns the names and texts of what [`Destination::install`] would write.
    pub fn texts(&self, manager: Manager, settings: &Settings, invocation: &Invocation) -> Vec<(String, String)> {
        let wanted = wanted(settings);
        match manager {
            Manager::Systemd => {
                let units = wanted.into_iter().flat_map(|one| systemd::units(settings, invocation, one, self.is_user));
                units.map(|unit| (self.units.join(unit.name).display().to_string(), unit.text)).collect()
            }
            Manager::Cron => {
                let text = cron::text(settings, invocation, &self.style, &wanted);
                if text.is_empty() { Vec::new() } else { vec![(self.cron_name(), text)] }
            }
        }
    }

    fn cron_name(&self) -> String {
        self.cron_file.as_ref().map_or(CRONTAB.into(), |path| path.display().to_string())
    }

    /// Returns what should be known of a schedule before it is relied on.
    pub fn warnings(&self, manager: Manager, settings: &Settings) -> Vec<String> {
        let mut warnings = Vec::new();
        let wanted = wanted(settings);
        if manager == Manager::Cron && wanted.contains(&Periodicity::Shutdown) {
            warnings.push("cron begins no runs when the machine goes down: `shutdown` needs systemd".into());
        }
        if manager == Manager::Systemd && self.is_user && !wanted.is_empty() {
            warnings.push("a user's timers end with their last session: `loginctl enable-linger` keeps them".into());
        }
        warnings
    }

    /// Writes the schedule and takes away what no profile has any more, also at the other manager.
    pub fn install(&self, manager: Manager, settings: &Settings, invocation: &Invocation) -> Result<Report> {
        let mut report = Report { warnings: self.warnings(manager, settings), ..Report::default() };
        let dropped: Vec<String> = self.carried()?.into_iter().filter(|name| !invocation.carries(name)).collect();
        if !dropped.is_empty() {
            let names = dropped.join(", ");
            report.warnings.push(format!(
                "scheduled runs have had {names}, which is not set here, and have it no more: if that is not meant so, set \
                 it and install again, or write what it says into the configuration"
            ));
        }
        match manager {
            Manager::Systemd => {
                self.install_units(settings, invocation, &mut report)?;
                self.keep_cron("", &mut report)?;
            }
            Manager::Cron => {
                let text = cron::text(settings, invocation, &self.style, &wanted(settings));
                self.keep_cron(&text, &mut report)?;
                self.remove_units(&Periodicity::SCHEDULED, &mut report)?;
            }
        }
        Ok(report)
    }

    /// Returns the names of the variables that what is installed carries.
    fn carried(&self) -> Result<BTreeSet<String>> {
        let mut text = self.read_cron()?.unwrap_or_default().own;
        for name in Periodicity::SCHEDULED.into_iter().flat_map(systemd::names) {
            text.extend(read(&self.units.join(name))?.filter(|text| is_ours(text)).unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&text);
        let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).flat_map(|word| {
            let word = word.strip_prefix("Environment=").unwrap_or(word);
            word.split_once('=').map(|(name, _)| name)
        });
        Ok(words.filter(|name| name.starts_with("BAKFS_") || name.starts_with("XDG_")).map(str::to_string).collect())
    }

    /// Takes away all that was ever installed.
    pub fn remove(&self) -> Result<Report> {
        let mut report = Report::default();
        self.remove_units(&Periodicity::SCHEDULED, &mut report)?;
        self.keep_cron("", &mut report)?;
        Ok(report)
    }

    /// Returns the schedule of every periodicity that a profile has or that is installed.
    pub fn entries(&self, settings: &Settings, invocation: &Invocation) -> Result<Vec<Entry>> {
        let crontab = String::from_utf8_lossy(&self.read_cron()?.unwrap_or_default().own).into_owned();
        let mut entries: Vec<Entry> = Vec::new();
        let ways = invocation.ways();
        for periodicity in Periodicity::SCHEDULED {
            let profiles: Vec<_> = profiles_of(settings, periodicity).map(|profile| profile.name.clone()).collect();
            let (mut by_systemd, mut by_cron) = (Installed::No, Installed::No);
            for way in &ways {
                let lines = cron::lines(settings, way, &self.style, periodicity);
                by_systemd = by_systemd.max(self.installed_units(periodicity, settings, way)?);
                by_cron = by_cron.max(installed_lines(&crontab, &lines, periodicity));
            }
            let found = [(by_systemd, Manager::Systemd), (by_cron, Manager::Cron)];
            let found = found.into_iter().filter(|(installed, _)| *installed != Installed::No);
            let (installed, manager) = match found.collect::<Vec<_>>()[..] {
                [] if profiles.is_empty() => continue,
                [] => (Installed::No, None),
                // What nobody wants, or what begins twice, is to be installed anew.
                [(_, manager)] if profiles.is_empty() => (Installed::Outdated, Some(manager)),
                [(installed, manager)] => (installed, Some(manager)),
                _ => (Installed::Outdated, Some(self.usual_manager())),
            };
            // What begins the others begins this one too, or would.
            let usual = entries.iter().find_map(|entry| entry.manager).unwrap_or(self.usual_manager());
            let is_possible = periodicity != Periodicity::Shutdown || usual == Manager::Systemd;
            entries.push(Entry { periodicity, profiles, installed, manager, is_possible });
        }
        Ok(entries)
    }
}

/// Finds a user's folder of units (systemd.unit(5), "Unit File Load Path").
fn user_units() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let config = config.ok_or_else(|| Error::usage("There is no HOME to keep a user's schedule in: set it"))?;
    Ok(config.join("systemd/user"))
}

fn installed_lines(text: &str, wanted: &[String], periodicity: Periodicity) -> Installed {
    let found: Vec<_> = text.lines().filter(|line| cron::begins(line, periodicity)).collect();
    match () {
        () if found.is_empty() => Installed::No,
        () if found == *wanted => Installed::Yes,
        () => Installed::Outdated,
    }
}

/// Units.
impl Destination {
    /// Returns the link that enables a periodicity's unit, and where it leads.
    fn link(&self, periodicity: Periodicity) -> Option<(PathBuf, PathBuf)> {
        let name = systemd::names(periodicity).pop()?;
        let wants = format!("{}.wants", systemd::wanted_by(periodicity, self.is_user));
        let folder = match self.units.strip_prefix(&self.system) {
            Ok(inside) if !self.is_user => Path::new("/").join(inside),
            _ => self.units.clone(),
        };
        Some((self.units.join(wants).join(&name), folder.join(&name)))
    }

    fn installed_units(&self, one: Periodicity, settings: &Settings, invocation: &Invocation) -> Result<Installed> {
        let is_enabled = self.link(one).is_some_and(|(link, _)| link.is_symlink());
        let mut is_outdated = false;
        let mut is_there = false;
        for unit in systemd::units(settings, invocation, one, self.is_user) {
            let found = match (read(&self.units.join(&unit.name))?, &self.packaged) {
                (None, Some(packaged)) => read(&packaged.join(&unit.name))?,
                (found, _) => found,
            };
            let found = found.filter(|text| is_ours(text));
            is_outdated |= found.as_deref() != Some(unit.text.as_bytes());
            is_there |= found.is_some();
        }
        Ok(match (is_there && is_enabled, is_outdated) {
            (false, _) => Installed::No,
            (true, true) => Installed::Outdated,
            (true, false) => Installed::Yes,
        })
    }

    fn install_units(&self, settings: &Settings, invocation: &Invocation, report: &mut Report) -> Result<()> {
        let wanted = wanted(settings);
        let units: Vec<_> =
            wanted.iter().flat_map(|one| systemd::units(settings, invocation, *one, self.is_user)).collect();
        for unit in &units {
            refuse_foreign(&self.units.join(&unit.name))?;
        }
        let unwanted: Vec<_> = Periodicity::SCHEDULED.into_iter().filter(|one| !wanted.contains(one)).collect();
        self.remove_units(&unwanted, report)?;
        for unit in units {
            let path = self.units.join(&unit.name);
            write(&path, unit.text.as_bytes())?;
            report.written.push(path.display().to_string());
        }
        for periodicity in &wanted {
            if let Some((link, target)) = self.link(*periodicity) {
                enable(&link, &target)?;
            }
        }
        if self.is_live() {
            self.systemctl(&["daemon-reload"])?;
            for periodicity in wanted {
                let name = systemd::names(periodicity).pop().unwrap_or_default();
                // What is restarted has been stopped, and for the shutdown runs that is the sign to begin.
                let verb = if periodicity == Periodicity::Shutdown { "start" } else { "restart" };
                self.systemctl(&[verb, &name])?;
            }
        }
        Ok(())
    }

    /// Takes away the units of some periodicities that bakfs has written. None of them is stopped before its file has
    /// gone: the shutdown runs would begin.
    fn remove_units(&self, periodicities: &[Periodicity], report: &mut Report) -> Result<()> {
        let mut stopped = Vec::new();
        for periodicity in periodicities {
            for name in systemd::names(*periodicity) {
                let path = self.units.join(&name);
                let link = self.link(*periodicity).map(|(link, _)| link).filter(|link| link.ends_with(&name));
                let is_written = read(&path)?.is_some_and(|text| is_ours(&text));
                // The package's own stay, and begin nothing any more.
                let is_packaged = || {
                    let target = link.as_ref().and_then(|link| std::fs::read_link(link).ok());
                    target.is_some_and(|target| target.starts_with("/usr/lib/systemd/system"))
                };
                if is_written || is_packaged() {
                    let gone = if is_written { path.clone() } else { link.clone().unwrap_or(path.clone()) };
                    link.map_or(Ok(()), |link| unlink(&link))?;
                    if is_written {
                        unlink(&path)?;
                    }
                    report.removed.push(gone.display().to_string());
                    if *periodicity == Periodicity::Shutdown || name.ends_with(".timer") {
                        stopped.push(name);
                    }
                }
            }
        }
        if self.is_live() && !report.removed.is_empty() {
            self.systemctl(&["daemon-reload"])?;
            for name in stopped {
                // One that was not running is not known any more.
                if let Err(error) = self.systemctl(&["stop", &name]) {
                    tracing::info!("{}", error.chain());
                }
            }
        }
        Ok(())
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<()> {
        let of_user = self.is_user.then_some("--user");
        let mut program = Program::new(["systemctl"].into_iter().chain(of_user).chain(arguments.iter().copied()));
        program.timeout = Some(PATIENCE);
        let (status, words) = program.run()?;
        if status.success() {
            return Ok(());
        }
        let line = format!("systemctl {}", arguments.join(" "));
        let message = format!("The schedule is written, but systemd does not take it: run `{line}` to see why");
        Err(Error::new(ErrorKind::Io, message).because(failed("systemctl", status, &words)))
    }
}

/// cron.
impl Destination {
    /// Reads what is before, in and after bakfs's own lines; `None` where there is no crontab or no cron.
    fn read_cron(&self) -> Result<Option<Crontab>> {
        match &self.cron_file {
            Some(path) => {
                let own = read(path)?.filter(|text| is_ours(text));
                Ok(own.map(|own| Crontab { own, ..Crontab::default() }))
            }
            None if self.is_own => read_crontab()?.map(|bytes| Crontab::parse(&bytes)).transpose(),
            None => Ok(None),
        }
    }

    /// Writes bakfs's own lines, or takes them away where there are to be none.
    fn keep_cron(&self, own: &str, report: &mut Report) -> Result<()> {
        let found = self.read_cron()?;
        let is_there = found.as_ref().is_some_and(|crontab| !crontab.own.is_empty());
        if own.is_empty() && !is_there {
            return Ok(());
        }
        match &self.cron_file {
            Some(path) if own.is_empty() => unlink(path)?,
            Some(path) => {
                refuse_foreign(path)?;
                write(path, own.as_bytes())?;
            }
            None if !self.is_own => {
                let message =
                    format!("A user's crontab is not below {ROOT_VARIABLE}: install it as that user, or as root");
                return Err(Error::usage(message));
            }
            None => write_crontab(found.unwrap_or_default().with(own))?,
        }
        let list = if own.is_empty() { &mut report.removed } else { &mut report.written };
        list.push(self.cron_name());
        Ok(())
    }
}

fn crontab(arguments: &[&str]) -> Program {
    let mut program = Program::new(["crontab"].iter().chain(arguments)).env("LC_ALL", "C");
    program.timeout = Some(PATIENCE);
    program
}

/// Reads the user's crontab; `None` where there is none, or no cron.
fn read_crontab() -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let reading = || "Cannot read the crontab".to_string();
    let read = match crontab(&["-l"]).stream() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(output) => {
            output.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| Error::of_read(reading(), error))
        }
    };
    match read {
        Err(error) if error.chain().contains("no crontab for") => Ok(None),
        Err(error) => Err(Error::new(error.kind(), reading()).because(error)),
        Ok(_) if bytes.len() as u64 == MAX_FILE_BYTES => {
            Err(Error::usage(format!("The crontab is longer than {} MiB", MAX_FILE_BYTES >> 20)))
        }
        Ok(_) => Ok(Some(bytes)),
    }
}

fn write_crontab(bytes: Vec<u8>) -> Result<()> {
    let mut program = crontab(if bytes.is_empty() { &["-r"] } else { &["-"] });
    program.input = Some(bytes.into());
    let (status, words) = program.run()?;
    if status.success() { Ok(()) } else { Err(failed("crontab", status, &words)) }
}

/// Reads a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let reading = || format!("Cannot read {}", path.display());
    let file = match std::fs::File::open(path) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound) => return Ok(None),
        file => file.context(reading)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).context(reading)?;
    Ok(Some(bytes))
}

fn is_ours(text: &[u8]) -> bool {
    text.strip_prefix(MARK.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
}

/// Refuses to overwrite what somebody else has written.
fn refuse_foreign(path: &Path) -> Result<()> {
    let is_foreign = match read(path)? {
        Some(text) => !is_ours(&text),
        None => path.is_symlink(),
    };
    if !is_foreign {
        return Ok(());
    }
    let message = format!("{} was not written by bakfs and is left alone: move it away", path.display());
    Err(Error::new(ErrorKind::Exists, message))
}

/// Writes a file that everyone may read, at once or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let writing = || format!("Cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    folder::make(folder, folder::PUBLIC).context(writing)?;
    disk::replace(path, bytes, folder::PUBLIC_FILE, Lasting::Whole).context(writing)
}

fn enable(link: &Path, target: &Path) -> Result<()> {
    if std::fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    unlink(link)?;
    let linking = || format!("Cannot make the link {}", link.display());
    folder::make(link.parent().unwrap_or(Path::new("/")), folder::PUBLIC).context(linking)?;
    std::os::unix::fs::symlink(target, link).context(linking)
}

fn unlink(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.context(|| format!("Cannot remove {}", path.display())),
    }
}
