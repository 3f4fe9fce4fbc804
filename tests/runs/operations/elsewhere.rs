//! Lines of the pages that are not typed as they stand, each with the reason and the test that stands for it.

use bakfs_testing::servers::{azure, b2, swift, webdav};

/// Lines that one test stands for.
pub struct Elsewhere {
    /// The lines, as the pages have them without remarks.
    pub lines: &'static [&'static str],
    /// Why they are not typed.
    pub why: &'static str,
    /// The test, as `file::name`.
    pub test: &'static str,
}

/// All of them.
pub const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        lines: &["cargo run --release -- demo"],
        why: "a release build takes minutes: the test runs the demo of the program under test",
        test: "tests/cli/demo.rs::the_demo_shows_two_days_and_cleans_up",
    },
    Elsewhere {
        lines: &["bakfs debug why SNAP:PATH", "bakfs debug cat OBJECT", "bakfs debug list"],
        why: "the names are those of what is stored",
        test: "tests/repository/keys.rs::a_path_is_told_the_packs_it_needs_and_those_that_are_gone",
    },
    Elsewhere {
        lines: &["packaging/build", "packaging/build deb"],
        why: "what is shipped takes a quarter of an hour to build: the tests package the program under test",
        test: "tests/packaging/main.rs::the_package_installs_upgrades_and_goes_in_debian_12",
    },
    Elsewhere {
        lines: &["apt-get install ./bakfs_0.2.0_amd64.deb"],
        why: "it is typed in bare roots",
        test: "tests/packaging/main.rs::the_package_installs_upgrades_and_goes_in_debian_13",
    },
    Elsewhere {
        lines: &["cp bakfs-0.2.0-x86_64-linux /usr/local/bin/bakfs && chmod 755 /usr/local/bin/bakfs"],
        why: "it is typed on a disk that has busybox alone",
        test: "tests/packaging/main.rs::the_static_binary_gives_the_first_half_hour_on_a_disk_with_busybox",
    },
    Elsewhere {
        lines: &[
            "podman load < bakfs-0.2.0-oci.tar",
            "podman run --rm -v /srv:/srv:ro -v backups:/var/lib/bakfs -v keys:/etc/bakfs/keys localhost/bakfs:0.2.0 backup /srv",
        ],
        why: "no engine of containers runs here: what reads and unpacks images does",
        test: "tests/packaging/main.rs::the_image_has_the_programs_of_databases_and_runs",
    },
    Elsewhere {
        lines: &["bakfs man DIR"],
        why: "the folder is the test's own",
        test: "tests/cli/values.rs::the_pattern_language_is_a_page_of_the_manual",
    },
    Elsewhere {
        lines: &["bakfs run NAME --allow-empty"],
        why: "the name is the profile's, and something must have been emptied before",
        test: "tests/runs/emptied.rs::an_emptied_source_costs_no_full_snapshot_its_place",
    },
    Elsewhere {
        lines: &["tests/run"],
        why: "it is what runs this test, in CI from a fresh system",
        test: "tests/runs/operations/mod.rs::every_line_of_the_pages_has_a_cover",
    },
    Elsewhere {
        lines: &[
            "export ST_AUTH=http://127.0.0.1:8080/auth/v1.0 ST_USER=test:tester ST_KEY=...",
            "bakfs --repo swift://container/some/repo init",
        ],
        why: "the server's address and key are the test's own",
        test: "tests/remote/contract/mod.rs::swift_keeps_the_contract",
    },
    Elsewhere {
        lines: &["bakfs --repo sftp://user@host:2222/srv/backup/repo init", "ssh -p 2222 user@host"],
        why: "the server's user, address and folder are the test's own",
        test: "tests/remote/contract/mod.rs::sftp_keeps_the_contract",
    },
    Elsewhere {
        lines: &["export WEBDAV_USER=... WEBDAV_PASSWORD=...", "bakfs --repo webdavs://host/folder/repo init"],
        why: "the server's address and password are the test's own",
        test: "tests/remote/contract/mod.rs::webdav_keeps_the_contract",
    },
    Elsewhere {
        lines: &[
            "export AZURE_STORAGE_ACCOUNT=... AZURE_STORAGE_KEY=...",
            "bakfs --repo azblob://container/some/repo init",
        ],
        why: "Microsoft's service is not called by tests: its emulator is",
        test: "tests/remote/contract/mod.rs::azure_keeps_the_contract",
    },
    Elsewhere {
        lines: &[
            "export GOOGLE_APPLICATION_CREDENTIALS=/etc/bakfs/google.json",
            "bakfs --repo gs://bucket/some/repo init",
            "gcloud auth application-default login",
        ],
        why: "Google's service is not called by tests: an emulator that checks no credentials is",
        test: "tests/remote/contract/mod.rs::gcs_keeps_the_contract",
    },
    Elsewhere {
        lines: &["export B2_APPLICATION_KEY_ID=... B2_APPLICATION_KEY=...", "bakfs --repo b2://bucket/some/repo init"],
        why: "Backblaze's service is not called by tests: our imitation of its API is",
        test: "tests/remote/contract/mod.rs::b2_keeps_the_contract",
    },
    Elsewhere {
        lines: &["rsync -aHAX --checksum"],
        why: "the name of a way to compare",
        test: "tests/mount/fidelity.rs::the_tools_find_no_difference_in_a_hostile_tree",
    },
    Elsewhere {
        lines: &["pg_dump -Fc -Z0", "pg_dump -Fc -Z0 > file"],
        why: "the name of what was measured (benches/databases)",
        test: "tests/databases/postgres.rs::a_day_of_changes_in_one_place_adds_a_small_share",
    },
    Elsewhere {
        lines: &["createdb -O -E -l"],
        why: "the names of the options for what the manifest tells",
        test: "tests/databases/database_postgresql_whole.rs::one_of_everything_comes_back_by_the_documented_commands",
    },
];

/// The tests of the contract enter with the variables that the page has people export, and no others but addresses.
#[test]
fn what_the_page_has_people_export_is_what_the_contract_enters_with() {
    for place in [swift::place(1), webdav::place(1, true), azure::place(1), b2::place(1)] {
        let scheme = format!("--repo {}:", place.url.split_once(':').unwrap().0);
        let cover = ELSEWHERE.iter().find(|cover| cover.lines.iter().any(|line| line.contains(&scheme))).unwrap();
        let export = cover.lines.iter().find_map(|line| line.strip_prefix("export ")).unwrap();
        let exported: Vec<_> = export.split(' ').map(|word| word.split_once('=').unwrap().0).collect();
        let is_address = |name: &&str| !name.ends_with("ENDPOINT") && !name.ends_with("ENVIRONMENT");
        let entered: Vec<_> = place.environment.iter().map(|(name, _)| &**name).filter(is_address).collect();
        assert_eq!(exported, entered, "{scheme}");
    }
}
