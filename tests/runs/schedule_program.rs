//! Promise: a schedule begins the program by the path it was called by, and one that may be cleaned away is told.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::run;

#[test]
fn what_is_scheduled_is_the_program_as_it_was_called_and_a_build_folder_is_told() {
    let bakfs = Bakfs::first_time();
    let text = "repo = '/srv/repo'\n[profile.web]\nsources = ['/srv/web']\nschedule = ['daily']\n";
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let build = bakfs.make_dir("build/release");
    let built = build.join("bakfs");
    std::fs::copy(bakfs_testing::cli::program(), &built).unwrap();
    let link = bakfs.make_dir("bin").join("bakfs");
    std::os::unix::fs::symlink(&built, &link).unwrap();
    let called = |program: &str, args: &[&str]| {
        let mut command = bakfs.wrap(program);
        command.env("BAKFS_SYSTEM_ROOT", bakfs.path("machine")).current_dir(&build);
        command.env("PATH", format!("{}:/usr/bin:/bin", bakfs.path("bin").display())).arg("schedule").args(args);
        run(command).expect(0)
    };
    let [link, built] = [&link, &built].map(|path| path.to_str().unwrap());
    for (program, written) in [(link, link), ("bakfs", link), (built, built), ("./bakfs", built)] {
        let told = called(program, &["install", "--systemd"]);
        assert!(!told.stderr.contains("build folder"), "{told}");
        let unit = bakfs.path("config/systemd/user/bakfs-daily.service");
        let text = std::fs::read_to_string(unit).unwrap();
        assert!(text.contains(&format!("ExecStart={written} run ")), "{program}: {text}");
        // By whichever path it is called afterwards, it is the same program.
        assert!(!called(built, &["list"]).text().contains("outdated"), "{program}");
    }
    std::fs::write(bakfs.path("build/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    called(link, &["install", "--systemd"]).says("is in the build folder").says("gone when that is cleaned");
}

/// What systemctl(1) does to enable a unit of a package.
fn enabled(bakfs: &Bakfs, unit: &str) -> std::path::PathBuf {
    let wants = bakfs.path("machine/etc/systemd/system/timers.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    let link = wants.join(unit);
    std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), &link).unwrap();
    link
}

#[test]
fn units_of_the_package_that_are_enabled_are_a_schedule_and_install_comes_before_them() {
    let bakfs = Bakfs::empty();
    let config = bakfs.path("config/bakfs.toml");
    let profile = "repo = '/srv/repo'\n[profile.web]\nsources = ['/srv/web']\nschedule = ['daily']\n";
    std::fs::write(&config, profile).unwrap();
    let schedule = |args: &[&str]| {
        let mut command = bakfs.command(["schedule"].iter().chain(args));
        command.env("BAKFS_SYSTEM_ROOT", bakfs.path("machine"));
        run(command).expect(0)
    };
    let installed = || schedule(&["list"]).text().lines().nth(1).unwrap().to_owned();
    schedule(&["install", "--systemd"]);
    let (own, packaged) = (bakfs.path("machine/etc/systemd/system"), bakfs.path("machine/usr/lib/systemd/system"));
    std::fs::create_dir_all(packaged.parent().unwrap()).unwrap();
    std::fs::rename(&own, &packaged).unwrap();
    std::fs::remove_dir_all(packaged.join("timers.target.wants")).unwrap();
    assert!(installed().contains("no: run"), "what is there and not enabled begins nothing: {}", installed());
    let link = enabled(&bakfs, "bakfs-daily.timer");
    assert!(installed().contains(" systemd "), "{}", installed());
    std::fs::write(&config, format!("{profile}[schedule]\ndaily = '01:02'\n")).unwrap();
    assert!(installed().contains("outdated"), "{}", installed());
    schedule(&["install", "--systemd"]);
    assert!(own.join("bakfs-daily.timer").exists() && installed().contains(" systemd "), "{}", installed());
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some("/etc/systemd/system/bakfs-daily.timer"));
    schedule(&["remove"]);
    assert!(!link.is_symlink() && packaged.join("bakfs-daily.timer").exists());
    // One that nobody wants any more is not begun by the package's either.
    let link = enabled(&bakfs, "bakfs-daily.timer");
    std::fs::write(&config, "repo = '/srv/repo'\n").unwrap();
    assert!(installed().contains("outdated"), "{}", installed());
    schedule(&["install", "--systemd"]);
    assert!(!link.is_symlink());
}
