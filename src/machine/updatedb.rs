//! Whether locate's updatedb(8) would walk through file systems of a type, every snapshot of a history among them.

use super::Machine;

/// The type of the file systems that mounted histories are.
pub const FS_TYPE: &str = "fuse.bakfs";
/// Its configuration (updatedb.conf(5)).
pub const CONFIGURATION: &str = "etc/updatedb.conf";

impl Machine {
    /// Says whether there is an updatedb that does not leave file systems of a type out.
    pub fn is_walked_by_updatedb(&self, fs_type: &str) -> bool {
        std::fs::read_to_string(self.root.join(CONFIGURATION)).is_ok_and(|text| !leaves_out(&text, fs_type))
    }
}

/// `PRUNEFS = "type type"`, each variable once; types are compared without regard to case.
fn leaves_out(configuration: &str, fs_type: &str) -> bool {
    let lines = configuration.lines().map(|line| line.split('#').next().unwrap_or_default());
    let values = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| name.trim() == "PRUNEFS");
    values.flat_map(|(_, value)| value.split([' ', '\t', '"'])).any(|word| word.eq_ignore_ascii_case(fs_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::at(folder.path());
        assert!(!machine.is_walked_by_updatedb("fuse.bakfs"), "there is no updatedb");
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        for (text, is_walked) in [
            ("PRUNE_BIND_MOUNTS=\"yes\"\nPRUNEFS=\"NFS afs fuse.sshfs\"\n", true),
            ("PRUNEFS = \"NFS fuse.bakfs\"\n", false),
            ("# PRUNEFS=\"fuse.bakfs\"\nPRUNEPATHS=\"/fuse.bakfs\"\n", true),
            ("  PRUNEFS=\"FUSE.BAKFS\" # all\n", false),
            ("", true),
        ] {
            std::fs::write(folder.path().join(CONFIGURATION), text).unwrap();
            assert_eq!(machine.is_walked_by_updatedb("fuse.bakfs"), is_walked, "{text}");
        }
    }
}
