//! The store against a server that fails in every way.

use super::*;
use crate::place::Place;
use server::{Answer, Objects, Request, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

mod answers;
mod server;

/// No long waits; three tries.
fn policy() -> Policy {
    Policy {
        max_tries: 3,
        first_pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(2),
        stall: Duration::from_millis(300),
        max_lag: Duration::from_millis(200),
        ..Policy::default()
    }
}

fn store_at(url: &str, variables: &[(&str, &str)], policy: Policy) -> RemoteStore {
    let Place::Remote(place) = Place::parse(url).unwrap() else { panic!() };
    let environment = Environment::of(variables.iter().copied());
    RemoteStore::with_policy(&place, &RemoteOptions::default(), environment, policy).unwrap()
}

fn s3(server: &Server) -> RemoteStore {
    let variables =
        [("AWS_ACCESS_KEY_ID", "AKIDENTITY"), ("AWS_SECRET_ACCESS_KEY", "S3CRET"), ("AWS_ENDPOINT_URL", &*server.url)];
    store_at("s3://bucket/p", &variables, policy())
}

fn pack(byte: u8) -> Object {
    Object::Pack(ObjectId([byte; 32]))
}

/// A server of objects that answers the `n`-th request with that method, from 1 on, otherwise.
fn faulty(
    method: &'static str,
    n: usize,
    fault: impl Fn(&Objects, &Request) -> Answer + Send + Sync + 'static,
) -> Server {
    let (objects, seen) = (Objects::default(), AtomicUsize::new(0));
    Server::start(move |request| {
        if request.method == method && seen.fetch_add(1, Relaxed) + 1 == n {
            return fault(&objects, request);
        }
        objects.answer(request)
    })
}

#[test]
fn an_object_is_one_request_with_its_checksum_and_is_looked_at_afterwards() {
    let objects = Objects::default();
    let kept = objects.clone();
    let server = Server::start(move |request| objects.answer(request));
    let store = s3(&server);
    // Longer than OpenDAL's smallest part of an upload in parts.
    let bytes: Vec<u8> = (0..6 << 20).map(|i: u32| (i.wrapping_mul(2654435761) >> 9) as u8).collect();
    store.put(pack(1), &bytes).unwrap();
    assert_eq!(server.seen(), ["PUT 0101", "HEAD 0101"]);
    let request = server.log.lock()[0].clone();
    assert_eq!(request.path(), format!("/bucket/p/packs/01/{}", "01".repeat(32)));
    assert_eq!(request.headers["content-length"], bytes.len().to_string());
    use base64::Engine;
    use md5::Digest;
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&bytes));
    assert_eq!(request.headers["content-md5"], md5);
    assert!(kept.0.lock().values().next().unwrap() == &bytes);
    assert!(store.read_whole(pack(1), 6 << 20).unwrap() == bytes);
    let mut part = vec![0; 1000];
    store.read_at(pack(1), 5_000_000, &mut part, Wait::Allowed).unwrap();
    assert_eq!(part, bytes[5_000_000..5_001_000]);
    let traffic = store.traffic();
    assert_eq!((traffic.puts, traffic.stats, traffic.gets, traffic.requests(), traffic.retries), (1, 1, 2, 4, 0));
    assert_eq!((traffic.sent_bytes, traffic.received_bytes), (6 << 20, (6 << 20) + 1000));
    assert_eq!(store.read_at(pack(1), 0, &mut part, Wait::Never).unwrap_err().kind(), ErrorKind::WouldWait);
    assert_eq!(store.traffic(), traffic, "nothing was asked");
}

#[test]
fn a_failure_that_stored_nothing_is_tried_again_under_the_same_name() {
    let server = faulty("PUT", 1, |_, _| Answer::Reply(503, vec![("retry-after", "0".into())], vec![]));
    let store = s3(&server);
    store.put(pack(1), b"bytes").unwrap();
    assert_eq!(server.seen(), ["PUT 0101", "PUT 0101", "HEAD 0101"]);
    assert_eq!(store.traffic().retries, 1);
    // Longer than anybody waits.
    let server = faulty("PUT", 1, |_, _| Answer::Reply(503, vec![("retry-after", "3600".into())], vec![]));
    let error = s3(&server).put(pack(1), b"bytes").unwrap_err();
    assert_eq!((error.kind(), server.count("PUT")), (ErrorKind::Io, 1));
    // Nobody listens.
    let url = "http://127.0.0.1:9";
    let variables = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", url)];
    let error = store_at("s3://bucket/p", &variables, policy()).put(pack(1), b"bytes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.chain().contains("tried 3 times") && error.chain().contains("check the host"), "{}", error.chain());
}

#[test]
fn a_lost_reply_is_a_success_if_the_object_is_there_and_uncertain_if_it_is_not() {
    let lose =
        |status: Option<u16>| move || status.map_or(Answer::Lost, |status| Answer::Reply(status, vec![], vec![]));
    for status in [None, Some(500), Some(502), Some(504)] {
        let answer = lose(status);
        let server = faulty("PUT", 1, move |objects, request| {
            objects.answer(request);
            answer()
        });
        s3(&server).put(pack(1), b"bytes").unwrap();
        assert_eq!(server.seen(), ["PUT 0101", "HEAD 0101"], "{status:?}: stored");
        let answer = lose(status);
        let server = faulty("PUT", 1, move |_, _| answer());
        let error = s3(&server).put(pack(1), b"bytes").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Uncertain, "{status:?}");
        assert_eq!(server.seen(), ["PUT 0101", "HEAD 0101"], "{status:?}: never again under this name");
    }
    // A server in trouble is given a little time before it is looked at again.
    let looks = AtomicUsize::new(0);
    let objects = Objects::default();
    let server = Server::start(move |request| match (&*request.method, looks.fetch_add(1, Relaxed)) {
        (_, 0) => {
            objects.answer(request);
            Answer::Lost
        }
        (_, 1 | 2) => Answer::Reply(500, vec![], vec![]),
        _ => objects.answer(request),
    });
    let mut patient = policy();
    patient.max_tries = 8;
    let variables = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", &*server.url)];
    store_at("s3://bucket/p", &variables, patient).put(pack(1), b"bytes").unwrap();
    assert_eq!((server.count("PUT"), server.count("HEAD")), (1, 3));
}

#[test]
fn other_bytes_than_were_sent_are_removed_and_reported() {
    for (in_reply, stored) in [(true, &b"other"[..]), (false, b"bytes and more"), (false, b"other")] {
        let server = faulty("PUT", 1, move |objects, request| {
            let stored = Request { body: stored.to_vec(), ..request.clone() };
            let answer = objects.answer(&stored);
            if in_reply { answer } else { Answer::Reply(200, vec![], vec![]) }
        });
        let error = s3(&server).put(pack(1), b"bytes").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Uncertain);
        assert_eq!(server.count("DELETE"), 1, "{}", error.chain());
        assert_eq!(server.count("PUT"), 1);
    }
    // An ETag that is no MD5, because a key of its own encrypts the object, tells nothing.
    let server = faulty("PUT", 1, |objects, request| {
        objects.answer(request);
        let headers = vec![("etag", server::etag(b"?")), ("x-amz-server-side-encryption", "aws:kms".into())];
        Answer::Reply(200, headers, vec![])
    });
    s3(&server).put(pack(1), b"bytes").unwrap();
}

#[test]
fn a_body_that_is_cut_short_is_never_a_success() {
    let server = faulty("GET", 1, |_, _| Answer::Cut(200, 5, b"byt".to_vec()));
    let store = s3(&server);
    store.put(pack(1), b"bytes").unwrap();
    assert_eq!(store.read_whole(pack(1), 100).unwrap(), b"bytes");
    assert_eq!((server.count("GET"), store.traffic().retries), (2, 1));
    let objects = Objects::default();
    let server = Server::start(move |request| match &*request.method {
        "GET" => Answer::Cut(if request.headers.contains_key("range") { 206 } else { 200 }, 5, b"byt".to_vec()),
        _ => objects.answer(request),
    });
    let store = s3(&server);
    let error = store.read_whole(pack(1), 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.chain().contains("tried 3 times"), "{}", error.chain());
    let error = store.read_at(pack(1), 0, &mut [0; 5], Wait::Allowed).unwrap_err();
    assert_eq!((error.kind(), server.count("GET")), (ErrorKind::Io, 6));
}

#[test]
fn objects_shorter_or_longer_than_they_may_be_are_damaged() {
    let objects = Objects::default();
    let server = Server::start(move |request| match request.path().ends_with(&"02".repeat(32)) {
        // Whoever believed it would take 1 TB.
        true => Answer::Cut(200, 1 << 40, b"x".to_vec()),
        false => objects.answer(request),
    });
    let store = s3(&server);
    store.put(pack(1), b"bytes").unwrap();
    for offset in [1, 5, 100] {
        let error = store.read_at(pack(1), offset, &mut [0; 5], Wait::Allowed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{offset}: {}", error.chain());
    }
    assert_eq!(store.read_whole(pack(1), 4).unwrap_err().kind(), ErrorKind::Damaged);
    let before = store.traffic();
    assert_eq!(store.read_whole(pack(2), 100).unwrap_err().kind(), ErrorKind::Damaged);
    let error = store.read_at(pack(2), 7, &mut [0; 5], Wait::Allowed).unwrap_err();
    assert!(error.chain().contains("does not give parts"), "{}", error.chain());
    assert_eq!(store.traffic().received_bytes, before.received_bytes);
    assert_eq!(store.read_whole(pack(3), 100).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.len_bytes(pack(3)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.len_bytes(pack(1)).unwrap(), 5);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::start(|_| Answer::Silent);
    let store = s3(&server);
    let error = store.read_whole(pack(1), 100).unwrap_err();
    assert_eq!((error.kind(), server.count("GET")), (ErrorKind::Io, 3));
    assert!(error.chain().contains("nothing moved"), "{}", error.chain());
    assert_eq!(store.put(pack(1), b"bytes").unwrap_err().kind(), ErrorKind::Uncertain);
    assert_eq!(server.count("PUT"), 1);
}

#[test]
fn listings_are_whole_or_fail() {
    let objects = Objects::default();
    let kept = objects.clone();
    let pages = Arc::new(AtomicUsize::new(0));
    let (asked, broken) = (pages.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let breaks = broken.clone();
    let server = Server::start(move |request| {
        if request.query("list-type").is_some() {
            asked.fetch_add(1, Relaxed);
            if request.query("continuation-token") == Some("2") && breaks.load(Relaxed) {
                return Answer::Reply(500, vec![], vec![]);
            }
        }
        objects.answer(request)
    });
    let store = s3(&server);
    for byte in 1..=5 {
        store.put(pack(byte), &vec![byte; usize::from(byte)]).unwrap();
    }
    for stray in ["packs/readme", "packs/01/.tmp-x", "packs/zz"] {
        kept.0.lock().insert(format!("/bucket/p/{stray}"), vec![]);
    }
    let mut listed = store.list(ObjectKind::Pack).unwrap();
    listed.sort_by_key(|listed| listed.id);
    let expected: Vec<ListedObject> =
        (1..=5).map(|byte| ListedObject { id: ObjectId([byte; 32]), len_bytes: u64::from(byte) }).collect();
    assert_eq!(listed, expected);
    assert_eq!(pages.load(Relaxed), 4);
    assert!(store.list(ObjectKind::Snapshot).unwrap().is_empty());
    broken.store(true, Relaxed);
    assert_eq!(store.list(ObjectKind::Pack).unwrap_err().kind(), ErrorKind::Io);
    store.delete(pack(1)).unwrap();
    store.delete(pack(1)).unwrap();
    assert!(!kept.0.lock().contains_key(&format!("/bucket/p/{}", pack(1).path())));
}

#[test]
fn the_configuration_is_never_replaced_and_is_read_back() {
    let objects = Objects::default();
    let server = Server::start(move |request| objects.answer(request));
    let store = s3(&server);
    assert_eq!(store.look().unwrap(), Contents { has_config: false, names: vec![] });
    assert_eq!(server.seen(), ["HEAD conf", "GET buck"]);
    store.put(Object::Config, b"mine").unwrap();
    assert_eq!(store.put(Object::Config, b"other").unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(store.read_whole(Object::Config, 100).unwrap(), b"mine");
    assert!(store.look().unwrap().has_config);
    // Another one is stored at the same time.
    let server = faulty("PUT", 1, |objects, request| {
        objects.answer(&Request { body: b"their".to_vec(), ..request.clone() });
        Answer::Reply(200, vec![], vec![])
    });
    assert_eq!(s3(&server).put(Object::Config, b"mine!").unwrap_err().kind(), ErrorKind::Exists);
    // The reply is lost, and it is there.
    let server = faulty("PUT", 1, |objects, request| {
        objects.answer(request);
        Answer::Lost
    });
    s3(&server).put(Object::Config, b"mine").unwrap();
}

#[test]
fn refusals_are_told_once_with_the_next_step_and_without_secrets() {
    let answers = [
        (403, "AccessDenied", ErrorKind::Denied, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied, "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
        (404, "NoSuchBucket", ErrorKind::Io, "make it first"),
        (507, "XMinioStorageFull", ErrorKind::Full, "quota"),
        (301, "PermanentRedirect", ErrorKind::Io, "AWS_REGION"),
    ];
    for (status, code, kind, expected) in answers {
        let server = Server::start(move |_| {
            let body = format!("<Error><Code>{code}</Code><Message>AKIDENTITY</Message><Key>S3CRET</Key></Error>");
            Answer::Reply(status, vec![], body.into_bytes())
        });
        let store = s3(&server);
        let error = store.read_whole(pack(1), 100).unwrap_err();
        assert_eq!((error.kind(), server.count("GET")), (kind, 1), "{}", error.chain());
        assert!(error.chain().contains(expected) && error.chain().contains(code), "{}", error.chain());
        assert!(!error.chain().contains("S3CRET"), "{}", error.chain());
        let error = store.put(pack(1), b"bytes").unwrap_err();
        assert_eq!((error.kind(), server.count("PUT")), (kind, 1), "{}", error.chain());
        let error = store.list(ObjectKind::Key).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
    }
}

#[test]
fn limits_hold_back_and_lose_nothing() {
    let objects = Objects::default();
    let server = Server::start(move |request| objects.answer(request));
    let Place::Remote(place) = Place::parse("s3://bucket/p").unwrap() else { panic!() };
    let environment = Environment::of([
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_ENDPOINT_URL", &*server.url),
    ]);
    let options = RemoteOptions {
        limit_upload_bytes_per_sec: Some(1 << 20),
        limit_download_bytes_per_sec: Some(1 << 20),
        connections: Some(2),
    };
    // Waiting for leave to send is no stall, however long it takes.
    let store = RemoteStore::with_policy(&place, &options, environment, policy()).unwrap();
    let bytes = vec![7; 1 << 20];
    store.put(pack(1), &bytes).unwrap();
    assert!(store.read_whole(pack(1), 1 << 20).unwrap() == bytes);
    assert_eq!((store.connections(), store.traffic().retries), (2, 0));
}

/// Swift as far as it takes for a container: a login, and listings that lag two looks behind.
#[test]
fn swift_is_entered_anew_when_a_token_expires_and_its_listings_are_waited_for() {
    let objects: Objects = Objects::default();
    let (logins, looks) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let looked = looks.clone();
    let url = Arc::new(Mutex::new(String::new()));
    let own = url.clone();
    let server = Server::start(move |request| {
        if request.path() == "/auth" {
            assert_eq!((&*request.headers["x-auth-user"], &*request.headers["x-auth-key"]), ("a:u", "S3CRET"));
            let token = format!("token{}", logins.fetch_add(1, Relaxed));
            let storage = format!("{}/v1/AUTH_a", own.lock());
            return Answer::Reply(200, vec![("x-storage-url", storage), ("x-auth-token", token)], vec![]);
        }
        // The first token never works.
        if request.headers["x-auth-token"] == "token0" {
            return Answer::Reply(401, vec![], vec![]);
        }
        if request.query("format").is_some() {
            let look = looked.fetch_add(1, Relaxed);
            let name = format!("p/{}", Object::Mark(ObjectId([1; 32])));
            let entry = format!(r#"[{{"bytes":5,"hash":"","name":"{name}","last_modified":"2026-01-01T00:00:00.0"}}]"#);
            let body = if look >= 2 && request.query("marker").is_none() { entry } else { "[]".into() };
            return Answer::Reply(200, vec![], body.into_bytes());
        }
        let answer = objects.answer(request);
        match (&*request.method, answer) {
            ("PUT", Answer::Reply(200, headers, body)) => {
                assert_eq!(request.headers["etag"], server::etag(&request.body).trim_matches('"'));
                Answer::Reply(201, headers, body)
            }
            (_, answer) => answer,
        }
    });
    url.lock().clone_from(&server.url);
    let auth = format!("{}/auth", server.url);
    let variables = [("ST_AUTH", &*auth), ("ST_USER", "a:u"), ("ST_KEY", "S3CRET")];
    let store = store_at("swift://container/p", &variables, policy());
    store.put(Object::Mark(ObjectId([1; 32])), b"bytes").unwrap();
    assert_eq!(looks.load(Relaxed), 0);
    store.barrier(Names::Mine).unwrap();
    assert!(looks.load(Relaxed) >= 3);
    let after = looks.load(Relaxed);
    store.barrier(Names::Mine).unwrap();
    assert_eq!(looks.load(Relaxed), after, "nothing is left to wait for");
    // Removed, it is shown for ever.
    store.delete(Object::Mark(ObjectId([1; 32]))).unwrap();
    let error = store.barrier(Names::Mine).unwrap_err();
    assert!(error.chain().contains("still shows"), "{}", error.chain());
}

/// An S3 that is not Amazon's may be Swift's, whose listings lag.
#[test]
fn no_barrier_ends_before_the_listing_shows_what_was_put() {
    let objects = Objects::default();
    let shows = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let shown = shows.clone();
    let server = Server::start(move |request| match request.query("list-type") {
        Some(_) if !shown.load(Relaxed) => Objects::default().answer(request),
        _ => objects.answer(request),
    });
    let variables = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", &*server.url)];
    let store = store_at("s3://bucket/p", &variables, Policy { max_lag: Duration::from_secs(60), ..policy() });
    store.put(pack(1), b"bytes").unwrap();
    let is_shown_after_barrier = || store.barrier(Names::Mine).map(|()| shows.load(Relaxed)).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(is_shown_after_barrier);
        while server.count("GET") == 0 {
            std::thread::yield_now();
        }
        let second = scope.spawn(is_shown_after_barrier);
        std::thread::sleep(Duration::from_millis(100));
        shows.store(true, Relaxed);
        assert!(first.join().unwrap() && second.join().unwrap());
    });
    let looks = server.count("GET");
    store.barrier(Names::Mine).unwrap();
    assert_eq!(server.count("GET"), looks, "nothing is left to wait for");
    // What was removed again is not waited for by anybody.
    store.put(pack(2), b"bytes").unwrap();
    store.delete(pack(2)).unwrap();
    store.barrier(Names::Mine).unwrap();
}

#[test]
fn a_missing_bucket_is_told_by_all_that_only_it_can_fail() {
    let server = Server::start(|_| Answer::Reply(404, vec![], vec![]));
    let store = s3(&server);
    let key = Object::Key(ObjectId([1; 32]));
    // That an object is missing is said by nothing but a question for it.
    for (error, kind) in [
        (store.look().unwrap_err(), ErrorKind::Io),
        (store.list(ObjectKind::Key).unwrap_err(), ErrorKind::Io),
        (store.put(key, b"bytes").unwrap_err(), ErrorKind::Io),
        (store.put(Object::Config, b"bytes").unwrap_err(), ErrorKind::NotFound),
    ] {
        assert_eq!(error.kind(), kind);
        assert!(error.chain().contains("make it first"), "{}", error.chain());
    }
    let error = store.read_whole(key, 100).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && !error.chain().contains("make it first"), "{}", error.chain());
}

#[test]
fn the_beginning_of_an_object_is_not_taken_for_its_middle() {
    let server = Server::start(|_| Answer::Reply(200, vec![], b"bytes".to_vec()));
    let store = s3(&server);
    let error = store.read_at(pack(1), 3, &mut [0; 5], Wait::Allowed).unwrap_err();
    assert!(error.chain().contains("does not give parts"), "{}", error.chain());
    let mut whole = [0; 5];
    store.read_at(pack(1), 0, &mut whole, Wait::Allowed).unwrap();
    assert_eq!(&whole, b"bytes");
}

fn webdav(server: &Server) -> RemoteStore {
    store_at(&format!("webdav://{}/p", server.url.strip_prefix("http://").unwrap()), &[], policy())
}

/// A server of folders that answers the `n`-th request with that method otherwise.
fn faulty_dav(
    method: &'static str,
    n: usize,
    fault: impl Fn(&Objects, &Request) -> Answer + Send + Sync + 'static,
) -> (Objects, Server) {
    let (objects, seen) = (Objects::default(), AtomicUsize::new(0));
    let kept = objects.clone();
    let server = Server::start(move |request| {
        if request.method == method && seen.fetch_add(1, Relaxed) + 1 == n {
            return fault(&objects, request);
        }
        objects.answer_dav(request)
    });
    (kept, server)
}

#[test]
fn where_there_are_folders_only_whole_objects_get_their_name() {
    let name = format!("/p/{}", pack(1).path());
    let stored =
        |objects: &Objects| objects.0.lock().iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    let whole: Vec<(String, Vec<u8>)> = vec![(name.clone(), b"bytes".to_vec())];
    // Lost while the bytes went, stored in part, or refused: nothing has the name yet, another try does no harm.
    for fault in 0..4 {
        let (objects, server) = faulty_dav("PUT", 1, move |objects, request| match fault {
            0 => Answer::Lost,
            1 => {
                objects.answer_dav(&Request { body: b"byt".to_vec(), ..request.clone() });
                Answer::Reply(201, vec![], vec![])
            }
            2 => Answer::Reply(503, vec![], vec![]),
            _ => Answer::Reply(409, vec![], vec![]),
        });
        webdav(&server).put(pack(1), b"bytes").unwrap();
        let found: Vec<(String, Vec<u8>)> = stored(&objects);
        assert_eq!(found, whole, "{fault}: no temporary name is left");
        let log = server.log.lock();
        let puts: Vec<&str> = log.iter().filter(|request| request.method == "PUT").map(Request::path).collect();
        assert_eq!(puts.len(), 2);
        assert!(puts.iter().all(|path| path.starts_with("/p/packs/01/.tmp-")), "{puts:?}");
        // Only where the folder was missing can it be the same.
        assert_eq!(puts[0] == puts[1], fault == 3, "{puts:?}");
    }
    // The change of the name is lost: it was made, or it was not.
    let (objects, server) = faulty_dav("MOVE", 1, |objects, request| {
        objects.answer_dav(request);
        Answer::Lost
    });
    webdav(&server).put(pack(1), b"bytes").unwrap();
    assert_eq!((server.count("PUT"), server.count("MOVE")), (1, 1));
    let found: Vec<(String, Vec<u8>)> = stored(&objects);
    assert_eq!(found, whole);
    let (objects, server) = faulty_dav("MOVE", 1, |_, _| Answer::Reply(500, vec![], vec![]));
    assert_eq!(webdav(&server).put(pack(1), b"bytes").unwrap_err().kind(), ErrorKind::Uncertain);
    assert!(objects.0.lock().is_empty(), "what a request that comes late could rename is gone");
    assert_eq!((server.count("PUT"), server.count("MOVE")), (1, 1));
    // The name is taken.
    let (objects, server) = faulty_dav("MOVE", 9, |_, _| Answer::Lost);
    let store = webdav(&server);
    store.put(pack(1), b"bytes").unwrap();
    store.put(pack(1), b"bytes").unwrap();
    let found: Vec<(String, Vec<u8>)> = stored(&objects);
    assert_eq!(found, whole);
    store.put(Object::Config, b"mine").unwrap();
    assert_eq!(store.put(Object::Config, b"other").unwrap_err().kind(), ErrorKind::Exists);
    assert!(server.log.lock().iter().filter(|request| request.method == "MOVE").all(|r| r.headers["overwrite"] == "F"));
}
