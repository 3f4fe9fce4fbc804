//! Promise: a repository behaves the same wherever it is. One suite, over the local folder and every service's server:
//! the store by itself, then the product by its command line.

mod product;
mod store;

use bakfs::place::Place as ParsedPlace;
use bakfs::remote::{Environment, RemoteOptions};
use bakfs::store::remote::RemoteStore;
use bakfs_testing::servers::{Place, Server, Service};

/// Opens the store at a place, as another machine would.
fn open(place: &Place) -> RemoteStore {
    let ParsedPlace::Remote(remote) = ParsedPlace::parse(&place.url).unwrap() else { panic!("{} is far", place.url) };
    let pairs = place.environment.iter().map(|(name, value)| (&**name, &**value));
    RemoteStore::open(&remote, &RemoteOptions::default(), Environment::of(pairs)).unwrap()
}

fn keeps_the_contract(service: Service, listed_count: usize) {
    let server = Server::start(service);
    let place = server.place().below("objects");
    let remote = open(&place);
    remote.prepare().unwrap();
    store::keeps_the_contract(&remote, listed_count, service.is_emulator());
    drop(remote);
    product::keeps_the_contract(&server.place().below("product"));
}

#[test]
fn a_local_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let local = bakfs::store::local::LocalStore::new(folder.path());
    local.create_folders().unwrap();
    store::keeps_the_contract(&local, 1500, false);
    let url = folder.path().join("product").display().to_string();
    product::keeps_the_contract(&Place { url, environment: Vec::new() });
}

#[test]
fn memory_keeps_the_contract_of_a_store() {
    store::keeps_the_contract(&bakfs_testing::stores::MemStore::default(), 1500, false);
}

#[test]
fn s3_by_rclone_keeps_the_contract() {
    keeps_the_contract(Service::RcloneS3, 1500);
}

#[test]
fn s3_by_openstack_keeps_the_contract() {
    keeps_the_contract(Service::SwiftS3, 200);
}

#[test]
fn s3_by_moto_keeps_the_contract() {
    keeps_the_contract(Service::Moto, 200);
}

#[test]
fn swift_keeps_the_contract() {
    keeps_the_contract(Service::Swift, 200);
}

#[test]
fn b2_keeps_the_contract() {
    keeps_the_contract(Service::B2, 1500);
}

/// The programs that connect look for `ssh` in this process's own PATH: the test runs once more in a child with the
/// server's.
#[test]
fn sftp_keeps_the_contract() {
    const PLACE: &str = "BAKFS_CONTRACT_PLACE";
    if let Ok(url) = std::env::var(PLACE) {
        let place = Place { url, environment: vec![("PATH".into(), std::env::var("PATH").unwrap())] };
        let remote = open(&place.clone().below("objects"));
        remote.prepare().unwrap();
        store::keeps_the_contract(&remote, 400, false);
        drop(remote);
        return product::keeps_the_contract(&place.below("product"));
    }
    let server = Server::start(Service::Sftp);
    let mut command = bakfs_testing::process::test_again(module_path!(), "sftp_keeps_the_contract");
    command.envs(server.environment()).env(PLACE, server.url());
    let outcome = bakfs_testing::process::run(command);
    assert!(outcome.code == 0 && outcome.text().contains("1 passed"), "{outcome}");
}

#[test]
fn webdav_keeps_the_contract() {
    keeps_the_contract(Service::WebDav, 400);
}

#[test]
fn azure_keeps_the_contract() {
    keeps_the_contract(Service::Azure, 300);
}

#[test]
fn gcs_keeps_the_contract() {
    keeps_the_contract(Service::Gcs, 300);
}
