use super::*;
use crate::error::ErrorKind;
use crate::place::Place;
use std::fs;

fn collect(url: &str, variables: &[(&str, &str)]) -> Result<Settings> {
    let Place::Remote(place) = Place::parse(url).unwrap() else { panic!() };
    Settings::collect(&place, Environment::of(variables.iter().copied()))
}

fn s3(url: &str, variables: &[(&str, &str)]) -> S3 {
    let Ok(Settings::S3(settings)) = collect(url, variables) else { panic!("{url}") };
    settings
}

#[test]
fn missing_credentials_say_what_was_looked_at_and_what_to_set() {
    for (url, expected) in [
        (
            "s3://bucket",
            &["AWS_ACCESS_KEY_ID", "/nowhere/.aws/credentials", "credentials.toml", "[\"s3://bucket\"]"][..],
        ),
        ("b2://bucket", &["B2_APPLICATION_KEY_ID"]),
        ("swift://container", &["OS_AUTH_URL", "ST_AUTH", "OS_STORAGE_URL", "SWIFT_AUTHURL"]),
        ("gs://bucket", &["GOOGLE_APPLICATION_CREDENTIALS", "application_default_credentials.json"]),
        ("azblob://container", &["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING"]),
    ] {
        let Err(error) = collect(url, &[("HOME", "/nowhere"), ("SWIFT_AUTHURL", "x")]) else { panic!("{url}") };
        assert_eq!(error.kind(), ErrorKind::Denied);
        for part in expected {
            assert!(error.chain().contains(part), "{}", error.chain());
        }
    }
    assert!(matches!(collect("webdav://host/x", &[]), Ok(Settings::WebDav(WebDav { login: None, .. }))));
    assert!(collect("webdav://host/x", &[("WEBDAV_USER", "me")]).is_err());
}

#[test]
fn amazons_variables_and_files_are_read() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let write = |name: &str, text: &str| fs::write(home.path().join(".aws").join(name), text).unwrap();
    write(
        "config",
        "[default]\nregion = eu-north-1\n[profile far]\nregion=us-west-2\nendpoint_url = https://far.example/\n\
         s3 =\n  addressing_style = virtual\nservices = both\n\
         [services both]\ns3 =\n  endpoint_url = https://s3.far.example\n",
    );
    write(
        "credentials",
        "# c\n[default]\naws_access_key_id = d\naws_secret_access_key = D\n\
         [far]\naws_access_key_id=f\naws_secret_access_key=F=\naws_session_token=T\n",
    );
    let home = home.path().to_str().unwrap();
    let default = s3("s3://bucket/p", &[("HOME", home)]);
    let (id, secret, token) = default.keys.unwrap();
    assert_eq!((&**id, &**secret, token), ("d", "D", None));
    assert_eq!((&*default.region, default.endpoint, default.is_virtual_host_style), ("eu-north-1", None, true));
    let far = s3("s3://bucket/p", &[("HOME", home), ("AWS_PROFILE", "far")]);
    let (id, secret, token) = far.keys.unwrap();
    assert_eq!((&**id, &**secret, token.as_deref().map(String::as_str)), ("f", "F=", Some("T")));
    assert_eq!((&*far.region, far.endpoint.as_deref()), ("us-west-2", Some("https://s3.far.example")));
    assert!(far.is_virtual_host_style);
    let variables = [
        ("HOME", home),
        ("AWS_ACCESS_KEY_ID", "e"),
        ("AWS_SECRET_ACCESS_KEY", "E"),
        ("AWS_REGION", "r"),
        ("AWS_ENDPOINT_URL", "http://all:1"),
        ("AWS_ENDPOINT_URL_S3", "http://s3:2/"),
    ];
    let given = s3("s3://bucket/p", &variables);
    assert_eq!((&*given.region, given.endpoint.as_deref()), ("r", Some("http://s3:2")));
    assert_eq!((&**given.keys.unwrap().0, given.is_virtual_host_style), ("e", false));
    assert!(!s3("s3://dotted.bucket", &[("HOME", home)]).is_virtual_host_style);
    assert!(collect("s3://bucket", &[("HOME", home), ("AWS_PROFILE", "none")]).is_err());
}

#[test]
fn the_ways_into_swift_are_told_apart() {
    let swift = |variables: &[(&str, &str)]| match collect("swift://container/p", variables) {
        Ok(Settings::Swift(settings)) => settings,
        _ => panic!("{variables:?}"),
    };
    let password = [
        ("OS_AUTH_URL", "https://keystone:5000/v3/"),
        ("OS_USERNAME", "me"),
        ("OS_PASSWORD", "word"),
        ("OS_PROJECT_NAME", "project"),
        ("OS_USER_DOMAIN_NAME", "Users"),
        ("OS_REGION_NAME", "north"),
    ];
    let settings = swift(&password);
    let SwiftLogin::V3 { url, body, .. } = &settings.login else { panic!() };
    assert_eq!(url, "https://keystone:5000/v3/auth/tokens");
    assert_eq!((settings.region.as_deref(), &*settings.interface), (Some("north"), "public"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "me", "domain": { "name": "Users" }, "password": "word" } } },
            "scope": { "project": { "name": "project", "domain": { "id": "default" } } } } })
    );
    let application = [
        ("OS_AUTH_URL", "https://keystone/identity"),
        ("OS_APPLICATION_CREDENTIAL_ID", "id"),
        ("OS_APPLICATION_CREDENTIAL_SECRET", "secret"),
    ];
    let SwiftLogin::V3 { url, body, .. } = swift(&application).login else { panic!() };
    assert_eq!(url, "https://keystone/identity/v3/auth/tokens");
    assert!(body.contains("\"application_credential\":{\"id\":\"id\",\"secret\":\"secret\"}"), "{}", *body);
    let own = [("ST_AUTH", "http://h/auth/v1.0"), ("ST_USER", "a:u"), ("ST_KEY", "k")];
    assert!(matches!(swift(&own).login, SwiftLogin::V1 { .. }));
    let token = [("OS_STORAGE_URL", "http://h/v1/AUTH_a"), ("OS_AUTH_TOKEN", "t")];
    assert!(matches!(swift(&token).login, SwiftLogin::Token { .. }));
    assert!(collect("swift://c", &[("OS_AUTH_URL", "x"), ("OS_USERNAME", "me")]).is_err());
}

#[test]
fn azure_and_google_settings_are_read() {
    let azure = |variables: &[(&str, &str)]| match collect("azblob://container/p", variables) {
        Ok(Settings::Azblob(settings)) => settings,
        _ => panic!("{variables:?}"),
    };
    let plain = azure(&[("AZURE_STORAGE_ACCOUNT", "me"), ("AZURE_STORAGE_KEY", "a2V5")]);
    assert_eq!(plain.endpoint, "https://me.blob.core.windows.net");
    let connection =
        "DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1:10000/dev;";
    let dev = azure(&[("AZURE_STORAGE_CONNECTION_STRING", connection)]);
    assert_eq!((&*dev.endpoint, &*dev.account), ("http://127.0.0.1:10000/dev", "dev"));
    assert_eq!(dev.key.as_deref().map(String::as_str), Some("a2V5=="));
    let shared = azure(&[("AZURE_STORAGE_ACCOUNT", "me"), ("AZURE_STORAGE_SAS_TOKEN", "?sv=1")]);
    assert_eq!(shared.sas_token.as_deref().map(String::as_str), Some("sv=1"));
    let Ok(Settings::Gcs(emulated)) = collect("gs://bucket", &[("STORAGE_EMULATOR_HOST", "localhost:4443")]) else {
        panic!()
    };
    assert_eq!((emulated.endpoint.as_deref(), emulated.is_open), (Some("http://localhost:4443"), true));
    assert!(collect("gs://bucket", &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]).is_err());
}

#[test]
fn a_place_with_a_login_of_its_own_takes_no_part_of_the_environments() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = "[\"s3://bucket\"]\naws_profile = \"far\"\n[\"swift://container\"]\nst_auth = \"https://own\"\n\
                st_user = \"me\"\nst_key = \"K\"\n";
    fs::write(path("own.toml"), file).unwrap();
    fs::set_permissions(path("own.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(path("keys"), "[far]\naws_access_key_id=f\naws_secret_access_key=F\n").unwrap();
    let (own, keys) = (path("own.toml"), path("keys"));
    let variables = [
        ("BAKFS_CREDENTIALS_FILE", &*own),
        ("AWS_SHARED_CREDENTIALS_FILE", &*keys),
        ("AWS_ACCESS_KEY_ID", "e"),
        ("AWS_SECRET_ACCESS_KEY", "E"),
        ("AWS_SESSION_TOKEN", "T"),
        ("AWS_REGION", "eu"),
        ("OS_AUTH_URL", "https://other"),
        ("OS_USERNAME", "you"),
        ("OS_PASSWORD", "P"),
        ("OS_PROJECT_NAME", "p"),
    ];
    let settings = s3("s3://bucket/p", &variables);
    let (id, secret, token) = settings.keys.unwrap();
    assert_eq!((&**id, &**secret, token, &*settings.region), ("f", "F", None, "eu"));
    assert_eq!(&**s3("s3://other", &variables).keys.unwrap().0, "e");
    let entry = |url: &str| match collect(url, &variables) {
        Ok(Settings::Swift(settings)) => settings.login,
        _ => panic!("{url}"),
    };
    assert!(matches!(entry("swift://container/p"), SwiftLogin::V1 { url, .. } if url == "https://own"));
    assert!(matches!(entry("swift://other"), SwiftLogin::V3 { .. }));
}
