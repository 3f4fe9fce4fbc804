//! Quantities as people write them: sizes, shares and numbers here, lengths of time in [`time`].

pub mod time;

/// Reads a length: bytes, or with `K`, `M`, `G` or `T` in binary units.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no length: write `500M` or `2G`");
    let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let shift = match text[digits.len()..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Reads a limit of bytes a second, as [`parse_bytes`]; none at all would let nothing through.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err(format!("`{text}` would let nothing through: write `500K`, or leave it out for no limit")),
        bytes => Ok(bytes),
    }
}

/// Writes a number of bytes in binary units, as `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Writes a number with thin groups, as `55 012`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Writes how many there are of something: `1 file`, `55 012 files`, `1 entry`, `2 entries`. Every text that has a
/// number before a noun is written by it, or by [`noun`].
pub fn counted(number: impl TryInto<u64>, what: &str) -> String {
    // No machine counts further.
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {}", count(number), noun(number, what))
}

/// Returns a noun as it stands behind a number.
pub fn noun(number: u64, what: &str) -> String {
    match what.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        _ if number == 1 => what.to_string(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{what}s"),
    }
}

/// Returns the verb after [`counted`].
pub fn are(number: impl TryInto<u64>) -> &'static str {
    if number.try_into().is_ok_and(|number| number == 1) { "is" } else { "are" }
}

/// A part of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    All,
    /// Millionths of its length.
    PerMillion(u32),
    /// This length.
    Bytes(u64),
}

/// Reads `5%` or a length with its unit: `B`, or `K`, `M`, `G` or `T`, which are binary.
pub fn parse_share(text: &str) -> Result<Share, String> {
    let wrong = || format!("`{text}` is no share: write `5%`, or a length as `500M` or `2G`");
    let nothing =
        || format!("`{text}` is nothing, and no share: write `5%` or `2G`, or `every = \"never\"` in a profile");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        if percent == 0.0 {
            return Err(nothing());
        }
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(format!("`{text}` is no share: it lies between 0% and 100%"));
        }
        return Ok(Share::PerMillion(((percent * 10_000.0).round() as u32).max(1)));
    }
    if parse_bytes(text) == Ok(0) {
        return Err(nothing());
    }
    // restic reads such a number as one of so many parts, and many a person as a percentage.
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(format!("`{text}` has no unit: write `{text}%`, or a length as `500M` or `2G`"));
    }
    let bytes = parse_bytes(text).map_err(|_| wrong())?;
    Ok(Share::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_binary_units() {
        assert_eq!(parse_bytes("10"), Ok(10));
        assert_eq!(parse_bytes("2 MiB"), Ok(2 << 20));
        assert_eq!(parse_bytes("3g"), Ok(3 << 30));
        assert_eq!((parse_bytes("0"), parse_bytes("0 MiB"), parse_rate("1")), (Ok(0), Ok(0), Ok(1)));
        assert!(parse_rate("0K").unwrap_err().contains("leave it out"));
        for wrong in ["", "M", "-1", "1.5G", "99999999T", "2X"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_counted_is_one_or_many() {
        assert_eq!([999, 55_012, 1_000_000].map(count), ["999", "55 012", "1 000 000"]);
        assert_eq!([0_u64, 1, 2].map(|number| counted(number, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!([1_usize, 1200].map(|number| counted(number, "entry")), ["1 entry", "1 200 entries"]);
        assert_eq!([1_u32, 3].map(|number| counted(number, "day")), ["1 day", "3 days"]);
        assert_eq!([0_u64, 1, 2].map(are), ["are", "is", "are"]);
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(parse_share("5%"), Ok(Share::PerMillion(50_000)));
        assert_eq!(parse_share("0.5 %"), Ok(Share::PerMillion(5_000)));
        assert_eq!(parse_share("2G"), Ok(Share::Bytes(2 << 30)));
        assert_eq!(parse_share("500 MiB"), Ok(Share::Bytes(500 << 20)));
        assert_eq!(parse_share("77 B"), Ok(Share::Bytes(77)));
        for wrong in ["", "%", "0%", "101%", "nan%", "5 percent", "-1G", "0", "5", "99999999999999T", "G"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
