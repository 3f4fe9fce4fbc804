//! What a page of a listing must be before anything is taken from it.
//!
//! OpenDAL reads any XML and any object of JSON as a page, and what it does not find there as nothing: a page about an
//! error would be a listing without objects. So each page is looked over first: that it is the service's own answer,
//! that all of it is there, and that it says whether there are more.

use super::failure::{Cause, Failure, Reply, plain};
use crate::quantity::counted;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use quick_xml::name::LocalName;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// Names on one page. Services with pages send up to 10 000 (OpenStack Swift), a WebDAV server all of a folder.
const MAX_NAMES: usize = 1 << 20;
/// Elements within one another: a listing has six.
const MAX_DEPTH: usize = 32;

/// How a service writes a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `ListBucketResult` (Amazon S3 API, "ListObjectsV2").
    S3,
    /// `EnumerationResults` (Azure Storage, "List Blobs").
    Azure,
    /// `multistatus` (RFC 4918 section 14.16).
    WebDav,
    /// `storage#objects` (Cloud Storage JSON API, "Objects: list").
    Gcs,
    /// `files` and `nextFileName` (B2 Native API, b2_list_file_names).
    B2,
    /// A list of objects and folders (OpenStack Object Storage API, "Show container details and list objects").
    Swift,
}

/// What a page that is whole says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Its first name, if it has any.
    pub first: Option<String>,
    /// How many names it has.
    pub names: usize,
    /// Whether it says that another comes.
    pub has_next: bool,
}

/// Looks a page over that was asked for by the start of names; the next attempt may bring a better one.
pub(super) fn look_over(form: Form, prefix: &str, body: &[u8]) -> Result<Page, Failure> {
    let page = match form {
        Form::S3 => Xml::read(body, "ListBucketResult", prefix).and_then(|xml| xml.answers(prefix)?.s3()),
        Form::Azure => Xml::read(body, "EnumerationResults", prefix).and_then(|xml| xml.answers(prefix)?.azure()),
        // Servers write paths in their own ways.
        Form::WebDav => Xml::read(body, "multistatus", "").and_then(|xml| xml.web_dav()),
        Form::Gcs => gcs(body, prefix),
        Form::B2 => b2(body, prefix),
        Form::Swift => swift(body, prefix),
    };
    page.map_err(|reason| no_listing(body, &reason))
}

/// Makes the failure of an answer that is no listing, in the service's own words where it has any.
fn no_listing(body: &[u8], reason: &str) -> Failure {
    let mut reply = Reply::default();
    reply.read_body(body);
    let words = match (reply.code.as_str(), reply.words.as_str()) {
        ("", _) => reason.to_owned(),
        (code, "") => code.to_owned(),
        (code, words) => format!("{code}, {words}"),
    };
    Failure::passing(Cause::NoListing, format!("the answer is no whole listing: {words}"))
}

/// What is kept of a page of XML.
#[derive(Default)]
struct Xml {
    /// What the root's own children say, but for those that hold names.
    says: Vec<(String, String)>,
    /// What elements hold names, by the names of those elements.
    holders: Vec<(&'static str, usize)>,
    first: Option<String>,
}

/// Elements below which there is one name each: of an object, or of a folder.
const HOLDERS: [&str; 5] = ["Contents", "CommonPrefixes", "Blob", "BlobPrefix", "response"];
/// Elements with the name itself.
const NAMES: [&str; 4] = ["Key", "Prefix", "Name", "href"];

impl Xml {
    /// Reads all of a page, which is one element of this name and nothing else.
    fn read(body: &[u8], root: &str, prefix: &str) -> Result<Xml, String> {
        let mut reader = Reader::from_reader(body);
        let mut xml = Xml::default();
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut was_closed = false;
        loop {
            let event =
                reader.read_event().map_err(|error| format!("its XML is broken: {}", plain(&error.to_string())))?;
            let (opened, closed) = match &event {
                Event::Start(start) => (Some(name_of(start.local_name())), false),
                Event::Empty(start) => (Some(name_of(start.local_name())), true),
                Event::End(_) => (None, true),
                Event::Text(part) => {
                    text += &part.xml10_content();
                    (None, false)
                }
                Event::GeneralRef(reference) => {
                    match reference.resolve_char_ref() {
                        Ok(Some(character)) => text.push(character),
                        _ => text += resolve_predefined_entity(reference).ok_or("it has an entity nobody knows")?,
                    }
                    (None, false)
                }
                Event::CData(part) => {
                    text += part;
                    (None, false)
                }
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => (None, false),
                Event::DocType(_) => return Err("it has a document type, as a web page has".into()),
                Event::Eof => break,
            };
            if path.is_empty() && !text.trim_start_matches('\u{feff}').trim().is_empty() {
                return Err(format!("it begins or ends with `{}`", plain(&text)));
            }
            if let Some(name) = opened {
                if path.is_empty() && (was_closed || name != root) {
                    return Err(format!("it is `{}`", plain(&name)));
                }
                if path.len() >= MAX_DEPTH {
                    return Err("its elements lie too deep".into());
                }
                path.push(name);
                text.clear();
            }
            if closed {
                xml.close(&path, std::mem::take(&mut text), prefix)?;
                path.pop();
                was_closed = path.is_empty();
            }
        }
        match (path.is_empty(), was_closed) {
            (true, true) => Ok(xml),
            (true, false) => Err("it is empty".into()),
            (false, _) => Err("it is cut off".into()),
        }
    }

    fn close(&mut self, path: &[String], text: String, prefix: &str) -> Result<(), String> {
        let [.., name] = path else { return Err("its XML is broken".into()) };
        if let Some(holder) = HOLDERS.iter().find(|holder| *holder == name) {
            match self.holders.iter_mut().find(|(known, _)| known == holder) {
                Some((_, count)) => *count += 1,
                None => self.holders.push((holder, 1)),
            }
            if self.names() > MAX_NAMES {
                return Err("it has too many names".into());
            }
        } else if path.len() == 2 {
            self.says.push((name.clone(), text.trim().to_owned()));
        } else if NAMES.contains(&name.as_str())
            && path.iter().rev().nth(1).is_some_and(|above| HOLDERS.contains(&above.as_str()))
        {
            is_asked_for(&text, prefix)?;
            self.first.get_or_insert(text);
        }
        Ok(())
    }

    fn names(&self) -> usize {
        self.holders.iter().map(|(_, count)| count).sum()
    }

    /// Returns what a child of the root says that may be there once.
    fn one(&self, name: &str) -> Result<Option<&str>, String> {
        let mut found = self.says.iter().filter(|(found, _)| found == name).map(|(_, text)| text.as_str());
        match (found.next(), found.next()) {
            (one, None) => Ok(one),
            _ => Err(format!("it says {name} twice")),
        }
    }

    fn page(&self, has_next: bool) -> Page {
        Page { first: self.first.clone(), names: self.names(), has_next }
    }

    /// Fails where it says itself that it answers another question; a server may leave that out.
    fn answers(self, prefix: &str) -> Result<Xml, String> {
        match self.one("Prefix")? {
            Some(told) if !told.is_empty() && !told.starts_with(prefix) => {
                Err(format!("it is of another place, {}", plain(told)))
            }
            _ => Ok(self),
        }
    }

    fn s3(&self) -> Result<Page, String> {
        let next = self.one("NextContinuationToken")?.unwrap_or_default();
        let has_next = match (self.one("IsTruncated")?, next) {
            (Some("true"), "") => return Err("more is to come, and it does not say from where on".into()),
            (Some("true"), _) => true,
            (Some("false"), "") => false,
            (Some("false"), _) => return Err("it says that nothing more comes, and from where on".into()),
            _ => return Err("it does not say whether more is to come".into()),
        };
        if let Some(count) = self.one("KeyCount")? {
            let count: usize = count.parse().map_err(|_| "its KeyCount is no number")?;
            if count > self.names() {
                return Err(format!("it says that it has {}, and has {}", counted(count, "name"), self.names()));
            }
        }
        Ok(self.page(has_next))
    }

    fn azure(&self) -> Result<Page, String> {
        if self.one("Blobs")?.is_none() {
            return Err("it has no place for names".into());
        }
        match self.one("NextMarker")? {
            None => Err("it does not say whether more is to come".into()),
            Some(next) => Ok(self.page(!next.is_empty())),
        }
    }

    fn web_dav(&self) -> Result<Page, String> {
        // The folder itself is among what is in it (RFC 4918 section 9.1).
        match self.names() {
            0 => Err("it does not even have the folder itself".into()),
            _ => Ok(self.page(false)),
        }
    }
}

/// Fails for a name that was not asked for: the page is the answer to another question.
fn is_asked_for(name: &str, prefix: &str) -> Result<(), String> {
    match name.starts_with(prefix) {
        true => Ok(()),
        false => Err(format!("it has names of another place, as {}", plain(name))),
    }
}

fn name_of(name: LocalName<'_>) -> String {
    name.as_ref().to_owned()
}

/// What a list in JSON has, of which only the first name is kept.
#[derive(Default)]
struct Names {
    first: Option<String>,
    names: usize,
    has_nameless: bool,
    /// What all names begin with.
    shared: Option<String>,
}

/// One of what a list has, however its service writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum One {
    Text(String),
    Named {
        #[serde(alias = "fileName", alias = "subdir")]
        name: String,
    },
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Names, A::Error> {
                let mut names = Names::default();
                while let Some(one) = all.next_element::<One>()? {
                    names.names += 1;
                    match one {
                        One::Text(name) | One::Named { name } => names.add(name),
                        One::Other(_) => names.has_nameless = true,
                    }
                }
                Ok(names)
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

impl Names {
    fn add(&mut self, name: String) {
        match &mut self.shared {
            None => self.shared = Some(name.clone()),
            Some(shared) => {
                let same = shared.chars().zip(name.chars()).take_while(|(one, other)| one == other);
                let len_bytes = same.map(|(one, _)| one.len_utf8()).sum();
                shared.truncate(len_bytes);
            }
        }
        self.first.get_or_insert(name);
    }

    fn page(self, prefix: &str, has_next: bool) -> Result<Page, String> {
        if self.has_nameless {
            return Err("it has something without a name".into());
        }
        self.shared.as_deref().map_or(Ok(()), |shared| is_asked_for(shared, prefix))?;
        Ok(Page { first: self.first, names: self.names, has_next })
    }
}

fn json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("it is not the service's JSON ({})", plain(&error.to_string())))
}

fn gcs(body: &[u8], prefix: &str) -> Result<Page, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        kind: String,
        #[serde(default)]
        items: Names,
        #[serde(default)]
        prefixes: Names,
        next_page_token: Option<String>,
    }
    let Answer { kind, items, prefixes, next_page_token: next } = json(body)?;
    // Its emulator in Python says `storage#object`.
    if kind != "storage#objects" && kind != "storage#object" {
        return Err(format!("it is `{}`", plain(&kind)));
    }
    if next.as_deref() == Some("") {
        return Err("more is to come, and it does not say from where on".into());
    }
    let folders = prefixes.page(prefix, false)?;
    let page = items.page(prefix, next.is_some())?;
    Ok(Page { first: page.first.or(folders.first), names: page.names + folders.names, ..page })
}

fn b2(body: &[u8], prefix: &str) -> Result<Page, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        files: Names,
        // Null at the end, and always there.
        next_file_name: serde_json::Value,
    }
    let Answer { files, next_file_name: next } = json(body)?;
    match next.as_str() {
        None if next.is_null() => files.page(prefix, false),
        Some(next) if !next.is_empty() => files.page(prefix, true),
        _ => Err("it does not say whether more is to come".into()),
    }
}

fn swift(body: &[u8], prefix: &str) -> Result<Page, String> {
    let names: Names = json(body)?;
    // Its end is a page without names.
    let has_next = names.names > 0;
    names.page(prefix, has_next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: &str = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <Prefix>p&amp;q/</Prefix><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>\
        <Contents><Key>p&amp;q/a</Key><Size>1</Size><Owner><ID>x</ID></Owner></Contents>\
        <CommonPrefixes><Prefix>p&amp;q/b/</Prefix></CommonPrefixes></ListBucketResult>";
    const AZURE: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Prefix>p&amp;q/</Prefix><Blobs>\
        <Blob><Name>p&amp;q/a</Name><Properties/></Blob><BlobPrefix><Name>p&amp;q/b/</Name></BlobPrefix></Blobs>\
        <NextMarker/></EnumerationResults>";
    const WEB_DAV: &str = "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/dav/p/</D:href></D:response>\
        <D:response><D:href>/dav/p/a</D:href></D:response></D:multistatus>";
    const GCS: &str = "{\"kind\": \"storage#objects\", \"prefixes\": [\"p&q/b/\"], \"items\": [{\"name\": \"p&q/a\"}]}";
    const B2: &str = "{\"files\": [{\"fileName\": \"p&q/a\"}, {\"fileName\": \"p&q/b/\"}], \"nextFileName\": null}";
    const SWIFT: &str = "[{\"name\": \"p&q/a\", \"bytes\": 1}, {\"subdir\": \"p&q/b/\"}]";
    const ALL: [(Form, &str); 6] = [
        (Form::S3, S3),
        (Form::Azure, AZURE),
        (Form::WebDav, WEB_DAV),
        (Form::Gcs, GCS),
        (Form::B2, B2),
        (Form::Swift, SWIFT),
    ];

    fn look(form: Form, body: &str) -> Result<Page, String> {
        look_over(form, "p&q/", body.as_bytes()).map_err(|failure| {
            assert!(failure.cause == Cause::NoListing && failure.is_temporary);
            failure.text
        })
    }

    #[test]
    fn a_page_that_says_it_is_of_another_place_is_none_also_without_a_name() {
        for (form, body) in [(Form::S3, S3), (Form::Azure, AZURE)] {
            let other = body.replace("<Prefix>p&amp;q/</Prefix>", "<Prefix>zz/</Prefix>");
            assert!(look(form, &other).unwrap_err().contains("another place"), "{form:?}");
        }
        let empty = "<ListBucketResult><Name>other</Name><Prefix>zz/</Prefix><IsTruncated>false</IsTruncated>\
                     </ListBucketResult>";
        assert!(look(Form::S3, empty).is_err());
        assert!(look(Form::S3, &empty.replace("zz/", "p&amp;q/")).is_ok());
        assert!(look(Form::S3, &empty.replace("<Prefix>zz/</Prefix>", "")).is_ok(), "what is not said is not held");
    }

    #[test]
    fn whole_pages_of_every_service_are_taken_and_nothing_else() {
        for (form, body) in ALL {
            let page = look(form, body).unwrap();
            let first = if form == Form::WebDav { "/dav/p/" } else { "p&q/a" };
            assert_eq!((page.names, page.first.as_deref()), (2, Some(first)), "{form:?}");
            assert_eq!(page.has_next, form == Form::Swift);
            // Wherever it breaks off, and whatever comes after it.
            for len in (0..body.len()).filter(|len| body.is_char_boundary(*len)) {
                look(form, &body[..len]).unwrap_err();
            }
            look(form, &format!("{body}\n")).unwrap();
            for more in ["x", "<a/>", "{}", body] {
                look(form, &format!("{body}{more}")).unwrap_err();
            }
            for (other, foreign) in ALL.into_iter().filter(|(other, _)| *other != form) {
                look(form, foreign).expect_err(&format!("{other:?} for {form:?}"));
            }
            for nothing in [
                "",
                " ",
                "null",
                "{}",
                "\"\"",
                "<html><body>log in</body></html>",
                "<!DOCTYPE html><html></html>",
                "<Error><Code>SlowDown</Code></Error>",
                "{\"error\": {\"code\": 503, \"message\": \"later\"}}",
                "\u{1f}\u{8b}",
            ] {
                look(form, nothing).unwrap_err();
            }
            if form != Form::WebDav {
                let elsewhere = body.replace("p&amp;q/b", "other/b").replace("p&q/b", "other/b");
                assert!(look(form, &elsewhere).unwrap_err().contains("another place"), "{form:?}");
            }
        }
        let error = look(Form::S3, "<Error><Code>InternalError</Code><Message>We are sorry</Message></Error>");
        assert!(error.unwrap_err().contains("InternalError, We are sorry"));
    }

    #[test]
    fn a_page_says_whether_more_is_to_come_and_from_where() {
        let last = "<IsTruncated>false</IsTruncated>";
        let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
        assert!(look(Form::S3, &S3.replace(last, more)).unwrap().has_next);
        for wrong in [
            "",
            "<IsTruncated>true</IsTruncated>",
            "<IsTruncated>true</IsTruncated><NextContinuationToken/>",
            "<IsTruncated>perhaps</IsTruncated>",
            "<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            "<IsTruncated>false</IsTruncated><IsTruncated>false</IsTruncated>",
            "<a><IsTruncated>false</IsTruncated></a>",
        ] {
            look(Form::S3, &S3.replace(last, wrong)).expect_err(wrong);
        }
        look(Form::S3, &S3.replace("<KeyCount>2<", "<KeyCount>3<")).unwrap_err();
        // Folders are not counted by all.
        look(Form::S3, &S3.replace("<KeyCount>2<", "<KeyCount>1<")).unwrap();
        assert!(look(Form::Azure, &AZURE.replace("<NextMarker/>", "<NextMarker>t</NextMarker>")).unwrap().has_next);
        look(Form::Azure, &AZURE.replace("<NextMarker/>", "")).unwrap_err();
        look(Form::Azure, "<EnumerationResults><NextMarker/></EnumerationResults>").unwrap_err();
        look(Form::WebDav, "<multistatus/>").unwrap_err();
        assert!(look(Form::B2, &B2.replace("null", "\"p&q/c\"")).unwrap().has_next);
        look(Form::B2, "{\"files\": []}").unwrap_err();
        look(Form::B2, "{\"nextFileName\": null}").unwrap_err();
        assert!(look(Form::Gcs, &GCS.replace("{\"kind\"", "{\"nextPageToken\": \"t\", \"kind\"")).unwrap().has_next);
        look(Form::Gcs, &GCS.replace("{\"kind\"", "{\"nextPageToken\": \"\", \"kind\"")).unwrap_err();
        look(Form::Gcs, "{\"kind\": \"storage#objects\", \"items\": {}}").unwrap_err();
        assert_eq!(look(Form::Gcs, "{\"kind\": \"storage#objects\"}").unwrap(), Page::default());
        assert_eq!(look(Form::Swift, "[]").unwrap(), Page::default());
        look(Form::Swift, "[{\"bytes\": 1}]").unwrap_err();
    }

    #[test]
    fn deep_pages_are_refused() {
        let body = format!("<ListBucketResult>{}", "<a>".repeat(100_000));
        assert!(look(Form::S3, &body).unwrap_err().contains("too deep"));
    }
}
