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
