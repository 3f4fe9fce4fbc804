//! `bakfs config show`: what the configuration means.

use crate::access::folders::{log_dir, state_dir};
use crate::cli::configured::chosen;
use crate::cli::open::Global;
use crate::cli::output::{readable, readable_path};
use crate::cli::{Status, stdout};
use crate::quantity::Share;
use crate::quantity::time::Duration;
use crate::settings::excludes::BUILT_IN;
use crate::settings::exec::Exec;
use crate::settings::file::Notify;
use crate::settings::profile::{mysql_name, postgresql_name};
use crate::settings::values::{Command, Keep};
use crate::settings::{Profile, Repository, Settings};
use jiff::Zoned;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Options of `bakfs config show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this profile
    #[arg(value_name = "PROFILE", add = crate::cli::complete::profiles())]
    profile: Option<String>,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let settings = global.access.settings()?;
    let profiles = chosen(&settings, args.profile.as_slice())?;
    let now = Zoned::now();
    let view = View { global, settings: &settings, now: &now };
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    if global.json {
        let profiles: Vec<Value> = profiles.iter().map(|profile| view.profile_json(profile)).collect();
        let all = json!({
            "path": settings.path.as_deref().map(readable_path),
            "state_dir": readable_path(&state_dir(&settings)),
            "log_dir": readable_path(&log_dir(&settings)),
            "metrics_file": settings.metrics_file.as_deref().map(readable_path),
            "built_in_excludes": BUILT_IN.map(|(glob, reason)| json!({ "glob": glob, "reason": reason })),
            "profiles": profiles,
        });
        writeln!(out, "{all}")?;
    } else {
        if let Some(path) = &settings.path {
            writeln!(out, "configuration  {}", readable_path(path))?;
        }
        writeln!(out, "states         {}", readable_path(&state_dir(&settings)))?;
        writeln!(out, "logs           {}", readable_path(&log_dir(&settings)))?;
        if let Some(path) = &settings.metrics_file {
            writeln!(out, "metrics        {}", readable_path(path))?;
        }
        for profile in profiles {
            writeln!(out)?;
            view.tell(&mut out, profile)?;
        }
    }
    out.flush()?;
    Ok(Status::Done)
}

struct View<'a> {
    global: &'a Global,
    settings: &'a Settings,
    now: &'a Zoned,
}

/// Writes rules as the options of `bakfs forget`.
fn rules(keep: &Keep) -> String {
    keep.rules.iter().map(|rule| rule.to_string()).collect::<Vec<_>>().join(" ")
}

/// Returns why a glob of a profile is there, where it is none of the user's.
fn reason(glob: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == glob).map(|(_, reason)| *reason)
}

fn every(secs: Option<u64>) -> String {
    Duration { secs }.to_string()
}

fn share(share: Share) -> String {
    match share {
        Share::All => "all".into(),
        Share::PerMillion(parts) => format!("{:.1}%", f64::from(parts) / 10_000.0),
        Share::Bytes(bytes) => crate::quantity::size(bytes),
    }
}

/// Returns a URL without what may be secret: all after the host.
fn host_only(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{}/...", host.rsplit('@').next().unwrap_or_default())
}

fn unlocked_by(repository: &Repository) -> String {
    match (&repository.password_file, &repository.password_command) {
        (Some(path), _) => format!("passphrase in {}", readable_path(path)),
        (None, Some(_)) => "passphrase by a command".into(),
        (None, None) => "this machine's key file".into(),
    }
}

/// Says what runs a database's programs.
fn by(exec: &Exec) -> String {
    let words: Vec<_> = exec.words().iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.is_empty() { String::new() } else { format!(", by {}", words.join(" ")) }
}

fn databases(profile: &Profile) -> Vec<String> {
    let listed = |databases: &Option<Vec<String>>, exclude: &[String]| match (databases, exclude) {
        (Some(names), _) => names.join(" "),
        (None, []) => "all databases".into(),
        (None, left_out) => format!("all databases but {}", left_out.join(" ")),
    };
    let mut all = Vec::new();
    all.extend(profile.postgresql.iter().map(|cluster| {
        let format = format!("{:?}", cluster.format).to_lowercase();
        let listed = listed(&cluster.databases, &cluster.exclude);
        format!("postgresql {}: {listed}, {format}{}", postgresql_name(cluster), by(&cluster.exec))
    }));
    all.extend(profile.mysql.iter().map(|server| {
        let listed = listed(&server.databases, &server.exclude);
        format!("mysql {}: {listed}{}", mysql_name(server), by(&server.exec))
    }));
    all.extend(profile.sqlite.iter().map(|sqlite| format!("sqlite {}", readable_path(&sqlite.path))));
    all.extend(
        profile.command.iter().map(|command| format!("command {}: {}{}", command.name, command.run, by(&command.exec))),
    );
    all
}

fn told(notify: &Notify) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(mail) = &notify.mail {
        all.push(format!("mail to {}", mail.list().join(", ")));
    }
    let urls = [
        ("webhook", &notify.webhook),
        ("ping-start", &notify.ping_start),
        ("ping-success", &notify.ping_success),
        ("ping-failure", &notify.ping_failure),
    ];
    all.extend(urls.iter().filter_map(|(what, url)| Some(format!("{what} {}", host_only(url.as_deref()?)))));
    if !all.is_empty() && notify.on_success == Some(true) {
        all.push("also of success".into());
    }
    all
}

fn hooks(profile: &Profile) -> Vec<(&'static str, &Command)> {
    let all = [
        ("before", &profile.hooks.before),
        ("after", &profile.hooks.after),
        ("on-failure", &profile.hooks.on_failure),
        ("finally", &profile.hooks.finally),
    ];
    all.into_iter().filter_map(|(name, command)| Some((name, command.as_ref()?))).collect()
}

impl View<'_> {
    fn place(&self, profile: &Profile) -> String {
        match self.global.access.for_repository(self.settings.repository_of(profile)).place() {
            Ok(place) => place.to_string(),
            Err(error) => error.chain(),
        }
    }

    fn next_runs(&self, profile: &Profile) -> Vec<(&'static str, Option<String>)> {
        let next = |periodicity| self.settings.schedule.next(periodicity, self.now);
        let shown = |time: Zoned| time.strftime("%Y-%m-%d %H:%M").to_string();
        profile.schedule.iter().map(|periodicity| (periodicity.word(), next(*periodicity).map(shown))).collect()
    }

    fn profile_json(&self, profile: &Profile) -> Value {
        let paths = |paths: &[std::path::PathBuf]| paths.iter().map(|path| readable_path(path)).collect::<Vec<_>>();
        let next = self.next_runs(profile).into_iter().map(|(word, next)| (word.to_string(), json!(next)));
        let hooks = hooks(profile).into_iter().map(|(name, command)| (name.to_string(), json!(command.to_string())));
        let separate = profile.separate.iter().map(|(word, keep)| (word.to_string(), json!(rules(keep))));
        let excludes = profile.excludes.iter().map(|glob| json!({ "glob": glob, "reason": reason(glob) }));
        json!({
            "profile": profile.name,
            "file": readable_path(&profile.file),
            "repository": profile.repository,
            "place": self.place(profile),
            "unlocked_by": unlocked_by(self.settings.repository_of(profile)),
            "sources": paths(&profile.sources),
            "excludes": excludes.collect::<Vec<_>>(),
            "exclude_files": paths(&profile.exclude_files),
            "exclude_caches": profile.exclude_caches,
            "one_file_system": profile.one_file_system,
            "allow_empty": profile.allow_empty,
            "databases": databases(profile),
            "tags": profile.tags,
            "host": profile.host,
            "compression": profile.compression,
            "schedule": next.collect::<serde_json::Map<_, _>>(),
            "keep": profile.keep.as_ref().map(rules),
            "separate": separate.collect::<serde_json::Map<_, _>>(),
            "hooks": hooks.collect::<serde_json::Map<_, _>>(),
            "hook_timeout_secs": profile.hooks.timeout_secs,
            "notify": told(&profile.notify),
            "check_every_secs": profile.check_every_secs,
            "check_share": share(profile.check_share),
            "check_max_age": profile.check_max_age.to_string(),
            "prune_every_secs": profile.prune_every_secs,
            "max_age": profile.max_age.map(|window| window.to_string()),
            "temporary_dir": profile.temporary_dir.as_deref().map(readable_path),
        })
    }

    fn tell(&self, out: &mut impl Write, profile: &Profile) -> std::io::Result<()> {
        let mut line = |key: &str, text: &str| writeln!(out, "  {key:<15}  {}", readable(text.as_bytes()));
        line("profile", &profile.name)?;
        line("written in", &profile.file.to_string_lossy())?;
        let repository = self.settings.repository_of(profile);
        let named = profile.repository.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        line("repository", &format!("{named}{}, {}", self.place(profile), unlocked_by(repository)))?;
        for source in &profile.sources {
            line("source", &source.to_string_lossy())?;
        }
        if profile.one_file_system {
            line("", "stays on the file system of each source")?;
        }
        for text in databases(profile) {
            line("database", &text)?;
        }
        for glob in &profile.excludes {
            line("left out", &reason(glob).map_or_else(|| glob.clone(), |reason| format!("{glob:<30} {reason}")))?;
        }
        if !(profile.postgresql.is_empty() && profile.mysql.is_empty()) {
            line(
                "left out",
                "the data folder of each server all of whose databases were dumped, as each run finds it",
            )?;
        }
        for path in &profile.exclude_files {
            line("left out", &format!("what {} lists", path.display()))?;
        }
        if profile.exclude_caches {
            line("left out", "folders marked by a CACHEDIR.TAG")?;
        }
        let words = |tags: &[String]| tags.join(" ");
        if !profile.tags.is_empty() {
            line("tags", &words(&profile.tags))?;
        }
        if let Some(host) = &profile.host {
            line("host", host)?;
        }
        if let Some(level) = profile.compression {
            line("compression", &level.to_string())?;
        }
        for (word, next) in self.next_runs(profile) {
            line("runs", &format!("{word:<9}  {}", next.map_or("no time known".into(), |at| format!("next {at}"))))?;
        }
        if profile.schedule.is_empty() {
            line("runs", "when asked for only")?;
        }
        line("keeps", &profile.keep.as_ref().map_or("everything".into(), rules))?;
        for (word, keep) in &profile.separate {
            line("keeps", &format!("{word} runs apart: {}", rules(keep)))?;
        }
        for (name, command) in hooks(profile) {
            line(name, &command.to_string())?;
        }
        for text in told(&profile.notify) {
            line("tells", &text)?;
        }
        let check =
            format!("{} of the data at most every {}", share(profile.check_share), every(profile.check_every_secs));
        line("verifies", if profile.check_every_secs.is_none() { "never" } else { &check })?;
        let prune = format!("at most every {}", every(profile.prune_every_secs));
        line("prunes", if profile.prune_every_secs.is_none() { "never" } else { &prune })?;
        if let Some(window) = profile.max_age {
            line("overdue after", &window.to_string())?;
        }
        if profile.has_databases() {
            let folder = profile.temporary_dir.clone().unwrap_or_else(std::env::temp_dir);
            line("temporary files", &Path::new(&folder).to_string_lossy())?;
        }
        Ok(())
    }
}
