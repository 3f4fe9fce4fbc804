use super::*;
use crate::error::ErrorKind;

fn shown(text: &str) -> String {
    Place::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

fn refused(text: &str) -> String {
    let error = Place::parse(text).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
    error.chain()
}

#[test]
fn places_are_parsed_and_shown() {
    for (text, expected) in [
        ("/srv/backup", "/srv/backup"),
        ("backup:old", "backup:old"),
        ("./s3:x", "./s3:x"),
        ("file:///srv/backup", "/srv/backup"),
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/a//b/", "s3://bucket/a/b"),
        ("b2://My-Bucket/host", "b2://My-Bucket/host"),
        ("swift://container/a@b", "swift://container/a@b"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("azblob://container", "azblob://container"),
        ("sftp://me@host:2222/srv/backup/", "sftp://me@host:2222/srv/backup"),
        ("sftp://alias/~/backup", "sftp://alias/./backup"),
        ("sftp://root@[::1]:9481/p", "sftp://root@[::1]:9481/p"),
        ("sftp://[2001:DB8::7]/p", "sftp://[2001:DB8::7]/p"),
        ("sftp://me@[fe80::1%eth0]:22/p", "sftp://me@[fe80::1%eth0]:22/p"),
        ("webdav://[::1]:8080/dav", "webdav://[::1]:8080/dav"),
        ("./me:word@host:/dir", "./me:word@host:/dir"),
        ("/srv/a:b@c:d", "/srv/a:b@c:d"),
        ("s3://bucket/My Backups/été+1&2%20#x/y?", "s3://bucket/My Backups/été+1&2%20#x/y?"),
        ("webdav://host:8080/dav/My%20Files/", "webdav://host:8080/dav/My Files"),
        ("webdavs://[::1]:8443", "webdavs://[::1]:8443"),
    ] {
        assert_eq!(shown(text), expected);
    }
    let Place::Remote(Remote::Sftp { from_home, path, port, user, .. }) = Place::parse("sftp://h/./a/b").unwrap()
    else {
        panic!()
    };
    assert_eq!((from_home, &*path, port, user), (true, "a/b", None, None));
}

#[test]
fn forms_of_other_programs_get_the_right_form_without_their_secret() {
    for (text, right) in [
        ("b2://0012345:S3CRET@bucket/dir", "b2://bucket/dir"),
        ("b2://0012345:S3C/RET@bucket/dir", "b2://bucket/dir"),
        ("s3://AKIA123:S3CRET@bucket/dir", "s3://bucket/dir"),
        ("s3://AKIA123:S3C@RET/S3CRET@host:9000/bucket/dir", "s3://bucket/dir"),
        ("s3://s3.eu-central-1.amazonaws.com/bucket/dir", "s3://bucket/dir"),
        ("s3://localhost:9000/bucket", "s3://bucket"),
        ("s3+http://bucket/dir", "s3://bucket/dir"),
        ("boto3+s3://bucket/dir", "s3://bucket/dir"),
        ("swift://user:S3CRET@container/dir", "swift://container/dir"),
        ("sftp://user:S3CRET@host//dir", "sftp://user@host/dir"),
        ("sftp://user@host//srv/dir", "sftp://user@host/srv/dir"),
        ("scp://user:S3CRET@host:22/dir", "sftp://user@host:22/dir"),
        ("ssh://host/dir", "sftp://host/dir"),
        ("paramiko+sftp://user:S3CRET@host/dir", "sftp://user@host/dir"),
        ("webdavs://user:S3CRET@host/dir", "webdavs://host/dir"),
        ("webdav://user:S3C/RET@host/dir", "webdav://host/dir"),
        ("gs://key:S3CRET@bucket/dir", "gs://bucket/dir"),
        ("azure://container/dir", "azblob://container/dir"),
        ("https://user:S3CRET@host/dav", "webdavs://host/dav"),
        ("multi:///etc/S3CRET.json?mode=mirror", "one place"),
        ("rclone://S3CRET@x", "webdavs://"),
        ("s3:S3CRET@bucket", "s3://bucket/prefix"),
        ("sftp:user@host:/dir", "sftp://user@host/path"),
        ("user:S3CRET@host:/dir", "sftp://user@host/dir"),
        ("user:S3C/RET@host:/dir", "sftp://user@host/dir"),
        ("user:S3C@RET@host:dir", "sftp://user@host/./dir"),
        ("user:S3CRET@[::1]:/dir", "sftp://user@[::1]/dir"),
        ("AKIA:S3CRET@bucket/dir", "sftp://AKIA@bucket/dir"),
        ("user@host:/dir", "sftp://user@host/dir"),
        ("nas:/srv/backup", "sftp://nas/srv/backup"),
        ("sftp://::1/dir", "sftp://[::1]/path"),
        ("s3://bucket/dir?access_key_id=AKIA&secret_access_key=S3CRET", "credentials.toml"),
        ("s3+http://bucket/dir?secret=S3CRET", "credentials.toml"),
        ("https://host/dav?token=S3CRET", "credentials.toml"),
        ("sftp://host/dir?x&password=S3CRET", "credentials.toml"),
    ] {
        let message = refused(text);
        assert!(message.contains(right), "{text}: {message}");
        assert!(!message.contains("S3C") && !message.contains("RET@"), "{text}: {message}");
    }
}

#[test]
fn places_that_make_no_sense_are_refused() {
    for text in [
        "",
        "s3://",
        "s3:///prefix",
        "s3://Bucket/x",
        "s3://bucket/a/../b",
        "s3://bucket/a\nb",
        "sftp://host",
        "sftp://host/",
        "sftp://-oProxyCommand=x/dir",
        "sftp://-lx@host/dir",
        "sftp://host:port/dir",
        "sftp://host:0/dir",
        "sftp://host:+22/dir",
        "sftp://[::1]x/dir",
        "sftp://[::1]:x/dir",
        "sftp://[host]/dir",
        "sftp://[::1/dir",
        "sftp://me@[fe80::1%]/dir",
        "sftp://ho st/dir",
        "sftp://host/../dir",
        "webdav:///dir",
        "webdav://host:x/dir",
        "webdav://host:0/dir",
        "webdav://host/a%2e%2e/../b",
        "webdav://host/%2e%2e/b",
        "webdav://host/a%00b",
        "webdav://host/a?b",
        "file://host/dir",
    ] {
        refused(text);
    }
}
