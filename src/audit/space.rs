//! Folders that are written to: room and access.

use super::Finding;
use crate::quantity::size;
use std::path::Path;

/// Less room than this is a problem.
const MIN_FREE_BYTES: u64 = 1 << 30;
/// A smaller part of the file system than a tenth is worth a word.
const MIN_FREE_PART: u64 = 10;

/// Looks at the room of the file system a folder is on, or will be.
pub fn check(subject: &str, folder: &Path) -> Finding {
    match folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok()) {
        Some(room) => {
            let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
            judge(subject, bytes(room.f_bavail), bytes(room.f_blocks))
        }
        None => Finding::problem(subject, "its file system does not tell how much room there is: check the path"),
    }
}

/// Looks at whether a folder can be written to, or made.
pub fn access(subject: &str, folder: &Path) -> Finding {
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    match rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK) {
        Ok(()) if nearest.is_dir() => Finding::fine(subject, "can be written to"),
        Ok(()) => Finding::problem(subject, format!("{} is no folder: name another place", nearest.display())),
        Err(error) => {
            let text =
                format!("{} cannot be written to ({error}): give access, or name another place", nearest.display());
            Finding::problem(subject, text)
        }
    }
}

fn judge(subject: &str, free_bytes: u64, total_bytes: u64) -> Finding {
    let text = format!("{} of {} are free", size(free_bytes), size(total_bytes));
    if free_bytes < MIN_FREE_BYTES {
        return Finding::problem(subject, format!("only {text}: make room, or use a larger disk"));
    }
    match free_bytes < total_bytes / MIN_FREE_PART {
        true => Finding::hint(subject, format!("only {text}: make room in time")),
        false => Finding::fine(subject, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn little_room_is_told_in_time() {
        const GIB: u64 = 1 << 30;
        for (free_bytes, total_bytes, severity) in [
            (GIB - 1, 2 * GIB, Severity::Problem),
            (GIB, 2 * GIB, Severity::Fine),
            (99 * GIB, 1000 * GIB, Severity::Hint),
            (100 * GIB, 1000 * GIB, Severity::Fine),
            (0, 0, Severity::Problem),
        ] {
            assert_eq!(judge("x", free_bytes, total_bytes).severity, severity, "{free_bytes} of {total_bytes}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(check("x", &folder.path().join("not/yet")).text.contains("are free"));
    }

    #[test]
    fn a_folder_can_be_written_to_or_made_or_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, severity) in [
            (folder.path().to_path_buf(), Severity::Fine),
            (folder.path().join("not/yet"), Severity::Fine),
            (file.join("below"), Severity::Problem),
        ] {
            assert_eq!(access("x", &path).severity, severity, "{}", path.display());
        }
    }
}
