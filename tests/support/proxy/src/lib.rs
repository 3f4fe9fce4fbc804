//! Stands between a client and a server. [`plain::Proxy`] passes any TCP protocol on, over a long cable and with
//! resets and stalls; [`http::Proxy`] knows HTTP/1.1 requests, answers some of them wrongly on purpose and records
//! all of them. Threads only, no TLS.

pub mod cable;
pub mod fault;
pub mod http;
pub mod message;
pub mod plain;
pub mod record;
mod server;
mod wire;
