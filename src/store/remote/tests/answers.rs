//! Answers that say less, or go on for longer, than they seem to.

use super::server::{Answer, Objects, Server};
use super::*;

/// Swift whose first token never works, and whose clock is two hours late.
fn swift(login: impl Fn() -> Option<Answer> + Send + Sync + 'static) -> (Server, RemoteStore) {
    let (objects, logins, puts) = (Objects::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let date = ("date", jiff::fmt::rfc2822::to_string(&late()).unwrap());
        if request.path() == "/auth" {
            let token = format!("token{}", logins.fetch_add(1, Relaxed));
            let storage = format!("http://{}/v1/AUTH_a", request.headers["host"]);
            let headers = vec![("x-storage-url", storage), ("x-auth-token", token), date];
            return login().unwrap_or(Answer::Reply(200, headers, vec![]));
        }
        if request.method == "PUT" && puts.fetch_add(1, Relaxed) == 0 {
            return Answer::Reply(503, vec![date], vec![]);
        }
        if request.headers["x-auth-token"] == "token0" {
            return Answer::Reply(401, vec![date], vec![]);
        }
        objects.answer(request)
    });
    let auth = format!("{}/auth", server.url);
    let variables = [("ST_AUTH", &*auth), ("ST_USER", "a:u"), ("ST_KEY", "S3CRET")];
    let store = store_at("swift://container/p", &variables, policy());
    (server, store)
}

fn late() -> jiff::Zoned {
    jiff::Zoned::now().checked_sub(jiff::SignedDuration::from_hours(2)).unwrap()
}

#[test]
fn a_token_is_renewed_once_whatever_the_clock_says_and_was_tried_before() {
    let (server, store) = swift(|| None);
    store.put(pack(1), b"bytes").unwrap();
    assert_eq!((server.count("PUT"), store.traffic().retries), (3, 2));
    let (server, store) = swift(|| Some(Answer::Reply(401, vec![], vec![])));
    let error = store.len_bytes(pack(1)).unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && error.chain().contains("ST_AUTH"), "{}", error.chain());
    assert_eq!(server.log.lock().len(), 2, "denied again, it is denied");
}

#[test]
fn who_is_not_let_in_learns_nothing_of_objects() {
    let is_denied = |store: RemoteStore| {
        for error in [
            store.delete(pack(1)).unwrap_err(),
            store.len_bytes(pack(1)).unwrap_err(),
            store.read_whole(pack(1), 10).unwrap_err(),
            store.put(pack(1), b"bytes").unwrap_err(),
            store.list(ObjectKind::Pack).unwrap_err(),
            store.look().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.chain());
            assert!(error.chain().contains("logging in: the server answered 404"), "{}", error.chain());
        }
    };
    is_denied(swift(|| Some(Answer::Reply(404, vec![], vec![]))).1);
    // Google's token for that of another service.
    let server = Server::start(|_| Answer::Reply(404, vec![], vec![]));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), "a token").unwrap();
    let credential = serde_json::json!({
        "type": "external_account",
        "audience": "a",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/token", server.url),
        "credential_source": { "file": path("token"), "format": { "type": "text" } },
    });
    std::fs::write(path("key"), credential.to_string()).unwrap();
    let key = path("key");
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", &*key), ("STORAGE_EMULATOR_HOST", &*server.url)];
    is_denied(store_at("gs://bucket/p", &variables, policy()));
    assert_eq!(server.count("POST"), server.log.lock().len(), "only tokens were asked for");
}

#[test]
fn what_is_left_under_a_temporary_name_is_removed_whatever_the_server_says() {
    let (objects, server) = faulty_dav("PUT", 1, |objects, request| {
        objects.answer_dav(&Request { body: b"byt".to_vec(), ..request.clone() });
        Answer::Reply(507, vec![], vec![])
    });
    assert_eq!(webdav(&server).put(pack(1), b"bytes").unwrap_err().kind(), ErrorKind::Full);
    assert!(objects.0.lock().is_empty());
    let (objects, server) = faulty_dav("PROPFIND", 1, |_, _| Answer::Reply(503, vec![], vec![]));
    webdav(&server).put(pack(1), b"bytes").unwrap();
    assert_eq!((objects.0.lock().len(), server.count("PUT")), (1, 2));
}

#[test]
fn a_name_that_was_changed_by_a_try_that_was_refused_is_found() {
    let (objects, server) = faulty_dav("MOVE", 1, |objects, request| {
        objects.answer_dav(request);
        Answer::Reply(503, vec![], vec![])
    });
    webdav(&server).put(pack(1), b"bytes").unwrap();
    assert_eq!((objects.0.lock().len(), server.count("PUT")), (1, 1));
}

#[test]
fn a_long_page_about_an_error_is_an_error_like_others() {
    let server = faulty("GET", 1, |_, _| Answer::Reply(503, vec![], vec![b' '; 100 << 10]));
    let store = s3(&server);
    store.put(pack(1), b"bytes").unwrap();
    assert_eq!(store.read_whole(pack(1), 100).unwrap(), b"bytes");
    assert_eq!(server.count("GET"), 2);
}

#[test]
fn a_listing_that_goes_round_in_circles_ends() {
    for page in [1, 2, 3] {
        let objects = Objects::default();
        let server = Server::start(move |request| {
            let mut request = request.clone();
            if request.query("continuation-token") == Some(&(2 * page).to_string()) {
                // As if it had not been asked for a page.
                request.target = request.target.replace("continuation-token", "ignored");
            }
            objects.answer(&request)
        });
        let store = s3(&server);
        (1..=7).for_each(|byte| store.put(pack(byte), b"bytes").unwrap());
        let error = store.list(ObjectKind::Pack).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.chain().contains("circles"), "{}", error.chain());
    }
}

#[test]
fn a_wrong_region_is_told_although_an_answer_to_head_has_no_body() {
    for (status, region, expected) in [
        (400, Some("eu-north-1"), "the bucket is in eu-north-1"),
        (301, Some("eu-north-1"), "the bucket is in eu-north-1"),
        (400, None, "AWS_SESSION_TOKEN has expired"),
    ] {
        let server = Server::start(move |_| {
            let headers = region.map(|region| ("x-amz-bucket-region", region.to_owned()));
            Answer::Reply(status, headers.into_iter().collect(), vec![])
        });
        let error = s3(&server).len_bytes(pack(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.chain().contains(expected) && error.chain().contains("AWS_REGION"), "{}", error.chain());
    }
}

#[test]
fn a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let server = Server::start(|_| Answer::Crawl(1000, Duration::from_millis(10)));
    let variables = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", &*server.url)];
    let policy = Policy { max_tries: 2, stall: Duration::from_millis(100), ..policy() };
    let error = store_at("s3://bucket/p", &variables, policy).read_whole(pack(1), 1000).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.chain().contains("not done after 1 s"), "{}", error.chain());
    assert_eq!(server.count("GET"), 2);
}

#[test]
fn a_checksum_that_is_none_is_judged_by_the_bytes() {
    let objects = Objects::default();
    let kept = objects.clone();
    let server = Server::start(move |request| match objects.answer(request) {
        Answer::Reply(200, mut headers, body) if matches!(&*request.method, "PUT" | "HEAD") => {
            headers.retain(|(name, _)| *name != "etag");
            headers.push(("etag", server::etag(b"sealed with a key of the server's")));
            Answer::Reply(200, headers, body)
        }
        answer => answer,
    });
    let store = s3(&server);
    for byte in 1..4 {
        store.put(pack(byte), &[byte; 50]).unwrap();
    }
    assert_eq!((server.count("PUT"), server.count("GET")), (3, 1), "one look is enough");
    // The length counts all the same, and so do the bytes of the first.
    let (bytes, all) = (kept.0.lock().len(), server.count("DELETE"));
    assert_eq!((bytes, all), (3, 0));
    for stored in [&b"other"[..], b"bytes and more"] {
        let objects = Objects::default();
        let server = Server::start(move |request| {
            let stored = Request { body: stored.to_vec(), ..request.clone() };
            objects.answer(if request.method == "PUT" { &stored } else { request })
        });
        let error = s3(&server).put(pack(1), b"bytes").unwrap_err();
        assert_eq!((error.kind(), server.count("DELETE")), (ErrorKind::Uncertain, 1), "{}", error.chain());
    }
}

#[test]
fn keys_that_are_renewed_in_their_file_are_taken_up_once_by_all_who_were_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    let write = |token: &str| {
        let text = format!("[default]\naws_access_key_id=a\naws_secret_access_key=b\naws_session_token={token}\n");
        std::fs::write(&path, text).unwrap();
    };
    let (objects, wanted) = (Objects::default(), Arc::new(Mutex::new("T1")));
    let right = wanted.clone();
    let server = Server::start(move |request| {
        match request.headers.get("x-amz-security-token").map(String::as_str) == Some(*right.lock()) {
            true => objects.answer(request),
            false => Answer::Reply(400, vec![], b"<Error><Code>ExpiredToken</Code></Error>".to_vec()),
        }
    });
    write("T1");
    let file = path.to_str().unwrap().to_owned();
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", &*file), ("AWS_ENDPOINT_URL", &*server.url), ("HOME", "/nowhere")];
    let store = store_at("s3://bucket/p", &variables, policy());
    store.put(pack(1), b"bytes").unwrap();
    // Every kind of request, that without a body in its answer among them, and many at a time.
    for (token, ask) in [
        ("T2", &(|| store.read_whole(pack(1), 9).map(drop)) as &(dyn Fn() -> Result<()> + Sync)),
        ("T3", &|| store.len_bytes(pack(1)).map(drop)),
        ("T4", &|| store.list(ObjectKind::Pack).map(drop)),
        ("T5", &|| store.put(pack(1), b"bytes")),
        ("T6", &|| store.delete(pack(2))),
    ] {
        *wanted.lock() = token;
        let before = server.log.lock().len();
        let error = ask().unwrap_err();
        // The answer to HEAD has no body that tells what is wrong.
        let is_told = error.kind() == ErrorKind::Denied || error.chain().contains("AWS_SESSION_TOKEN");
        assert!(is_told && !error.chain().contains("tried"), "{}", error.chain());
        assert_eq!(server.log.lock().len(), before + 1, "{token} is not there yet: {}", error.chain());
        write(token);
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().for_each(|asked| asked.join().unwrap().unwrap());
        });
    }
}
