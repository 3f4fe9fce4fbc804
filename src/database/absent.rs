//! In the place of the databases, where this program was built without the feature `databases`: what a profile dumps is an
//! error then, and never left out in silence.

use super::local::Temporary;
use super::manifest::names;
use super::{Plan, Report};
use crate::error::Error;
use crate::process::Stop;

fn absent() -> Error {
    Error::without_feature("It cannot be dumped", "databases")
}

macro_rules! absent {
    ($kind:ident, $settings:ty, $name:expr) => {
        pub mod $kind {
            use super::*;

            pub fn plan(settings: &$settings, _: &Temporary, _: &Stop, plan: &mut Plan) {
                let name: String = $name(settings);
                let below: Vec<&[u8]> = name.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect();
                plan.fail(&names(stringify!($kind), &below), absent());
            }

            pub fn inspect(settings: &$settings, _: &Temporary, report: &mut Report) {
                let name: String = $name(settings);
                report.error(&format!("{} {name}", stringify!($kind)), &absent());
            }
        }
    };
}

absent!(postgresql, crate::settings::file::Postgresql, |it| crate::settings::profile::postgresql_name(it).to_string());
absent!(mysql, crate::settings::file::Mysql, |it| crate::settings::profile::mysql_name(it).to_string());
absent!(sqlite, crate::settings::file::Sqlite, |it: &crate::settings::file::Sqlite| it.path.display().to_string());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_database_that_cannot_be_dumped_is_an_error_at_the_place_of_its_dump() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bakfs.toml");
        let text =
            "repo = '/nowhere'\n[profile.p]\npostgresql = [{}]\nmysql = [{}]\nsqlite = [{ path = '/srv/a.db' }]\n";
        std::fs::write(&path, text).unwrap();
        let settings = Settings::read(&path).unwrap();
        let profile = settings.profile("p").unwrap();
        let (temporary, stop) = (Temporary::new(None), Stop::default());
        let (mut planned, mut report) = (Plan::default(), Report::default());
        for cluster in &profile.postgresql {
            postgresql::plan(cluster, &temporary, &stop, &mut planned);
            postgresql::inspect(cluster, &temporary, &mut report);
        }
        for server in &profile.mysql {
            mysql::plan(server, &temporary, &stop, &mut planned);
            mysql::inspect(server, &temporary, &mut report);
        }
        for files in &profile.sqlite {
            sqlite::plan(files, &temporary, &stop, &mut planned);
            sqlite::inspect(files, &temporary, &mut report);
        }
        planned.part();
        let failed: Vec<_> = planned.failed.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(failed, ["/databases/mysql/main", "/databases/postgresql/main", "/databases/sqlite/srv/a.db"]);
        assert!(planned.failed.iter().all(|(_, error)| error.chain().contains("without the feature `databases`")));
        assert!(planned.units.is_empty() && planned.replaced.is_empty(), "and their files are backed up as files");
        assert_eq!(report.inspections.iter().filter(|found| found.is_problem).count(), 3);
    }
}
