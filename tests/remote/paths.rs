//! Promise: what is reached over a network can be listed and read by its paths, whoever has put it there and whatever it
//! is: no repository and no store is needed.

use bakfs::error::ErrorKind;
use bakfs::place::Place;
use bakfs::remote::{Bounds, Client, Environment, Item, RemoteOptions};
use bakfs_testing::noise;
use bakfs_testing::servers::{BUCKET, Server, Service};

/// Returns where the place of a client is for rclone.
fn there(server: &Server) -> String {
    let url = server.url();
    let (_, path) = url.split_once(&format!("/{BUCKET}/")).unwrap();
    format!("there:{BUCKET}/{path}")
}

fn client(server: &Server) -> Client {
    let place = server.place();
    let Place::Remote(remote) = Place::parse(&place.url).unwrap() else { panic!("{} is far", place.url) };
    let pairs = place.environment.iter().map(|(name, value)| (&**name, &**value));
    Client::open(&remote, &RemoteOptions::default(), Environment::of(pairs)).unwrap()
}

/// What rclone has put into a service is listed, read in parts and removed.
fn are_read_by_their_paths(service: Service) {
    let server = Server::start(service);
    let folder = tempfile::tempdir().unwrap();
    let files = [("long", noise(1, 3_000_000)), ("sub/short", b"hello".to_vec()), ("sub/deep/er", noise(2, 100))];
    for (path, bytes) in &files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    server.rclone(&["copy", folder.path().to_str().unwrap(), &there(&server)]).expect(0);

    let client = client(&server);
    let list = |folder: &str, is_deep| {
        let keep = |item: Item| Some((item.path, if item.is_folder { 0 } else { item.len_bytes }, item.is_folder));
        client.list(folder, is_deep, &Bounds::whole(10, "folder"), &keep).map(|mut listed| {
            listed.sort();
            listed
        })
    };
    let file = |path: &str, len_bytes| (path.to_owned(), len_bytes, false);
    let folder = |path: &str| (path.to_owned(), 0, true);
    assert_eq!(list("", false).unwrap(), [file("long", 3_000_000), folder("sub/")], "{service:?}");
    assert_eq!(list("sub/", false).unwrap(), [folder("sub/deep/"), file("sub/short", 5)], "{service:?}");
    let has_folders = service == Service::WebDav;
    match list("", true) {
        Ok(listed) => {
            let files: Vec<_> = listed.into_iter().filter(|(_, _, is_folder)| !is_folder).collect();
            assert_eq!(files, [file("long", 3_000_000), file("sub/deep/er", 100), file("sub/short", 5)], "{service:?}");
            assert!(!has_folders);
        }
        Err(error) => assert!(has_folders && error.kind() == ErrorKind::Usage, "{}", error.chain()),
    }
    let few = client.list("", false, &Bounds::whole(1, "folder"), &Some).unwrap_err();
    assert!(few.chain().contains("more than 1 object, more than any folder has"), "{}", few.chain());

    for (path, bytes) in &files {
        assert_eq!(client.len_bytes(path).unwrap(), bytes.len() as u64);
        assert!(&client.read_whole(path, 3_000_000).unwrap() == bytes, "{service:?} {path}");
    }
    let requests = client.traffic().requests();
    let mut part = vec![0; 500];
    client
        .read("long", 1_000_000..1_000_500, &mut |at, bytes| part[at..at + bytes.len()].copy_from_slice(bytes))
        .unwrap();
    assert_eq!(part, noise(1, 3_000_000)[1_000_000..1_000_500], "{service:?}");
    assert_eq!(client.traffic().requests(), requests + 1);
    assert_eq!(client.read("sub/short", 3..9, &mut |_, _| {}).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(client.read_whole("sub/short", 4).unwrap_err().kind(), ErrorKind::Damaged);

    client.delete("sub/short").unwrap();
    client.delete("sub/short").unwrap();
    let error = client.read_whole("sub/short", 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
    assert!(error.chain().starts_with("Cannot read sub/short at "), "{}", error.chain());
    let left = server.rclone(&["lsf", "-R", "--files-only", &there(&server)]).expect(0).text();
    assert_eq!(left.lines().collect::<std::collections::BTreeSet<_>>(), ["long", "sub/deep/er"].into(), "{service:?}");
}

#[test]
fn files_in_a_bucket_are_read_by_their_paths() {
    are_read_by_their_paths(Service::RcloneS3);
    are_read_by_their_paths(Service::B2);
}

#[test]
fn files_in_a_container_are_read_by_their_paths() {
    are_read_by_their_paths(Service::Swift);
}

#[test]
fn files_of_a_web_server_are_read_by_their_paths() {
    are_read_by_their_paths(Service::WebDav);
}

#[test]
fn files_at_emulators_are_read_by_their_paths() {
    are_read_by_their_paths(Service::Gcs);
    are_read_by_their_paths(Service::Azure);
}
