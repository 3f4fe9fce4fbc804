//! What may go wrong with a request, and which requests it befalls.

use crate::message::Head;
use std::fmt;

/// What a request is for, whatever the service calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads an object or a part of one.
    Get,
    /// Stores an object.
    Put,
    /// Asks for a page of a listing.
    List,
    /// Asks about an object.
    Stat,
    /// Removes an object.
    Delete,
    /// Anything else: leave to enter, folders, new names.
    Other,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [Kind::Get, Kind::Put, Kind::List, Kind::Stat, Kind::Delete, Kind::Other];

    /// Returns the kind's name in records.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::List => "list",
            Kind::Stat => "stat",
            Kind::Delete => "delete",
            Kind::Other => "other",
        }
    }

    /// Tells a request's kind by how S3, B2, Swift, Azure, GCS and WebDAV write it.
    pub fn of(head: &Head) -> Kind {
        let (path, query) = head.word(1).split_once('?').unwrap_or((head.word(1), ""));
        let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        let is_gcs_object = path.contains("/storage/v1/b/");
        match head.word(0) {
            "HEAD" => Kind::Stat,
            "PROPFIND" if head.get("depth") == Some("0") => Kind::Stat,
            "PROPFIND" => Kind::List,
            "DELETE" => Kind::Delete,
            "PUT" if asks("comp") || asks("location") || head.get("x-amz-copy-source").is_some() => Kind::Other,
            "PUT" => Kind::Put,
            "GET" if asks("list-type") || asks("prefix") || asks("marker") || asks("format") => Kind::List,
            "GET" if query.contains("comp=list") || is_gcs_object && path.ends_with("/o") => Kind::List,
            "GET" if is_gcs_object && !asks("alt") => Kind::Stat,
            "GET" if path.starts_with("/auth/") || path.contains("b2_authorize") || asks("location") => Kind::Other,
            "GET" => Kind::Get,
            "POST" if path.contains("b2_list_file") => Kind::List,
            "POST" if path.contains("b2_upload_file") || path.starts_with("/upload/storage/") => Kind::Put,
            "POST" if path.contains("b2_delete_file") || asks("delete") || path.contains("/batch") => Kind::Delete,
            "POST" if path.contains("b2_get_file_info") => Kind::Stat,
            _ => Kind::Other,
        }
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The connection is reset; the server sees nothing of the request.
    ResetBefore,
    /// Both connections are reset when the server has half of the request's content.
    ResetInRequest,
    /// The server does what it was asked; then the connection is reset instead of the answer.
    ResetAfter,
    /// The request is answered by a failure; the server sees nothing of it.
    Refuse {
        /// The answer's code.
        status: u16,
        /// With a Retry-After of so many seconds.
        retry_after_secs: Option<u32>,
    },
    /// The server does what it was asked; the answer is a failure all the same.
    FailAfter {
        /// The answer's code.
        status: u16,
    },
    /// The answer says its true length and ends half way.
    CutShort,
    /// The answer has half of its content, and says that this is all.
    Shortened,
    /// One bit of the answer's content is another.
    FlipAnswer,
    /// One bit of the request's content is another.
    FlipRequest,
    /// The request is taken and never answered.
    Stall,
    /// The answer stops half way and the connection stays open.
    StallInAnswer,
    /// The connection is reset; the server gets the request later, after so many others.
    Late {
        /// Requests that come first.
        after_requests: u64,
    },
    /// A listing is answered as it was the last time, and so are the next ones of the same address.
    Stale {
        /// How often the old answer is given.
        times: u64,
    },
}

impl Fault {
    /// Returns the fault's name in records.
    pub fn name(self) -> String {
        match self {
            Fault::ResetBefore => "reset-before".into(),
            Fault::ResetInRequest => "reset-in-request".into(),
            Fault::ResetAfter => "reset-after".into(),
            Fault::Refuse { status, retry_after_secs: None } => format!("refuse-{status}"),
            Fault::Refuse { status, .. } => format!("refuse-{status}-retry-after"),
            Fault::FailAfter { status } => format!("fail-after-{status}"),
            Fault::CutShort => "cut-short".into(),
            Fault::Shortened => "shortened".into(),
            Fault::FlipAnswer => "flip-answer".into(),
            Fault::FlipRequest => "flip-request".into(),
            Fault::Stall => "stall".into(),
            Fault::StallInAnswer => "stall-in-answer".into(),
            Fault::Late { .. } => "late".into(),
            Fault::Stale { .. } => "stale".into(),
        }
    }

    /// Returns whether the fault can befall a request of a kind.
    pub fn suits(self, kind: Kind) -> bool {
        match self {
            Fault::Stale { .. } => kind == Kind::List,
            Fault::FlipRequest | Fault::ResetInRequest => kind == Kind::Put,
            Fault::FlipAnswer => kind == Kind::Get,
            Fault::Late { .. } => matches!(kind, Kind::Put | Kind::Delete),
            Fault::CutShort | Fault::Shortened | Fault::StallInAnswer => matches!(kind, Kind::Get | Kind::List),
            _ => true,
        }
    }
}

/// One request as a plan sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counted from 1 since the plan was made.
    pub number: u64,
    /// What it is for.
    pub kind: Kind,
    /// Its method.
    pub method: String,
    /// Its target: path and query.
    pub target: String,
}

type Choose = dyn FnMut(&Request) -> Option<Fault> + Send;

/// Decides which requests get a fault.
pub struct Plan(Box<Choose>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    /// Decides by a function.
    pub fn of(choose: impl FnMut(&Request) -> Option<Fault> + Send + 'static) -> Plan {
        Plan(Box::new(choose))
    }

    /// Every request passes.
    pub fn none() -> Plan {
        Plan::of(|_| None)
    }

    /// The n-th request, counted from 1, of those the fault suits gets it; all the others pass.
    pub fn nth(n: u64, fault: Fault) -> Plan {
        Plan::from_nth_for(n, 1, fault)
    }

    /// From the n-th request on, counted from 1, so many get the fault: of those it suits.
    pub fn from_nth_for(n: u64, times: u64, fault: Fault) -> Plan {
        let mut met = 0;
        Plan::of(move |request| {
            met += u64::from(fault.suits(request.kind));
            (fault.suits(request.kind) && (n..n.saturating_add(times)).contains(&met)).then_some(fault)
        })
    }

    /// So many of a thousand requests get one of the faults, by a die.
    pub fn dice(seed: u64, per_mille: u64, faults: Vec<Fault>) -> Plan {
        let mut state = seed;
        let mut roll = move || {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Plan::of(move |request| {
            let suiting: Vec<_> = faults.iter().filter(|fault| fault.suits(request.kind)).collect();
            let (first, second) = (roll(), roll());
            let is_hit = first % 1000 < per_mille && !suiting.is_empty();
            is_hit.then(|| *suiting[(second % suiting.len() as u64) as usize])
        })
    }

    pub(crate) fn choose(&mut self, request: &Request) -> Option<Fault> {
        (self.0)(request).filter(|fault| fault.suits(request.kind))
    }
}
