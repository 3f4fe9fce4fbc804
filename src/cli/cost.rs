//! What a command has asked of a store far away: requests are billed, and bytes too.

use super::output::{count, counted, size};
use crate::store::Traffic;

/// Writes requests by kind and bytes in each direction; nothing for a local folder.
pub fn told(traffic: &Traffic) -> Option<String> {
    if traffic.requests() == 0 {
        return None;
    }
    let kinds = [
        (traffic.gets, "read"),
        (traffic.puts, "write"),
        (traffic.lists, "listing"),
        (traffic.stats, "question"),
        (traffic.deletes, "removal"),
        (traffic.others, "other"),
    ];
    let asked: Vec<_> =
        kinds.iter().filter(|(number, _)| *number > 0).map(|(number, kind)| counted(*number, kind)).collect();
    let again = match traffic.retries {
        0 => String::new(),
        retries => format!(" ({} of them again after a failure)", count(retries)),
    };
    let (received, sent) = (size(traffic.received_bytes), size(traffic.sent_bytes));
    Some(format!("{}{again}; {received} received, {sent} sent", asked.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_told_where_there_are_any() {
        assert_eq!(told(&Traffic::default()), None);
        let traffic = Traffic { gets: 1200, puts: 3, retries: 1, received_bytes: 5 << 20, ..Traffic::default() };
        let text = "1 200 reads, 3 writes (1 of them again after a failure); 5.0 MiB received, 0 B sent";
        assert_eq!(told(&traffic).as_deref(), Some(text));
    }
}
