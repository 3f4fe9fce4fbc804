//! A random key as text a person can copy: `bakfs1-` and 55 letters and digits in groups of five.

use super::keys::Secret;
use zeroize::Zeroizing;

const PREFIX: &str = "bakfs1";
/// RFC 4648 base32, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn check(secret: &Secret) -> [u8; 2] {
    let hash = blake3::derive_key("bakfs 2026-11-20 check digits of a written key", &secret.0);
    [hash[0], hash[1]]
}

/// Writes a key: its 32 bytes and two check bytes.
pub fn to_text(secret: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(80));
    text.push_str(PREFIX);
    let (mut bits, mut bit_count, mut letters) = (0u32, 0, 0);
    let mut push = |text: &mut String, value: u32| {
        if letters % 5 == 0 {
            text.push('-');
        }
        letters += 1;
        text.push(char::from(ALPHABET[(value & 31) as usize]));
    };
    for byte in secret.0.iter().chain(&check(secret)) {
        bits = bits << 8 | u32::from(*byte);
        bit_count += 8;
        while bit_count >= 5 {
            bit_count -= 5;
            push(&mut text, bits >> bit_count);
        }
    }
    push(&mut text, bits << (5 - bit_count));
    text
}

/// Reads a written key; spaces, dashes and capital letters do not matter. `None` if it is none or mistyped.
pub fn from_text(text: &str) -> Option<Secret> {
    let body = text.trim().to_ascii_lowercase();
    let body = Zeroizing::new(body);
    let body = body.strip_prefix(PREFIX)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(34));
    let (mut bits, mut bit_count) = (0u32, 0);
    for letter in body.bytes().filter(|letter| !matches!(letter, b'-' | b' ' | b'\n')) {
        let value = ALPHABET.iter().position(|known| *known == letter)? as u32;
        bits = bits << 5 | value;
        bit_count += 5;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
        }
    }
    if bytes.len() != 34 {
        return None;
    }
    let secret = Secret(*bytes.first_chunk()?);
    (check(&secret) == bytes[32..]).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_reads_back_and_a_mistyped_one_does_not() {
        let secret = Secret::random();
        let text = to_text(&secret);
        assert_eq!(text.len(), 6 + 11 * 6);
        assert_eq!(from_text(&text).unwrap().0, secret.0);
        assert_eq!(
            from_text(&text.to_uppercase().replace('-', " ").replacen("BAKFS1 ", "bakfs1 ", 1)).unwrap().0,
            secret.0
        );
        let mut other = text.to_string().into_bytes();
        other[10] = if other[10] == b'a' { b'b' } else { b'a' };
        assert!(from_text(&String::from_utf8(other).unwrap()).is_none());
        assert!(from_text("hunter2").is_none());
    }
}
