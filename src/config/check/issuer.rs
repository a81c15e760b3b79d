//! `[identity]` and `[[issuer]]`.

use std::time::Duration;

use http::{HeaderName, Uri};

use super::super::error::Fault;
use super::super::file;
use super::super::settings::{Algorithm, Holds, Identity, Issuer, KeySource};
use super::super::word::{Field, OneOrMany, Said, Spot};
use super::scalar::{authority, choice, duration, identity_header, is_loopback, name, number, some_text};
use super::{Check, section};

impl Check {
    pub(super) fn identity(&mut self, words: &Field<file::Identity>, root: &Spot) -> Option<Identity> {
        let (words, spot) = section(words, root, "identity")?;
        let leeway = self.value(&words.leeway, Duration::from_secs(30), duration("0s", "5m"));
        let remember = self.value(&words.remember, 10_000, number(0, 1_000_000));
        let (headers, _) = section(&words.headers, &spot, "headers")?;
        let subject_header =
            self.value(&headers.subject, HeaderName::from_static("x-auth-subject"), identity_header);
        let taken = subject_header.clone();
        let roles_header = self.value(&headers.roles, HeaderName::from_static("x-auth-roles"), |text| {
            let header = identity_header(text)?;
            if Some(&header) == taken.as_ref() {
                Err(Fault::HeaderTaken { found: text.to_owned() })
            } else {
                Ok(header)
            }
        });
        Some(Identity {
            leeway: leeway?,
            remember: remember?,
            subject_header: subject_header?,
            roles_header: roles_header?,
        })
    }

    /// `certs` are the client certificates that prove callers beside them.
    pub(super) fn issuers(
        &mut self,
        words: &Field<Vec<Said<file::Issuer>>>,
        certs: Option<&Said<file::ClientCerts>>,
    ) -> Option<Vec<Issuer>> {
        let items = match words {
            Field::Absent => return Some(Vec::new()),
            Field::Broken => return None,
            Field::Said(said) => &said.word,
        };
        self.issuers_apart(items);
        let certs_primary = certs.and_then(|certs| certs.word.primary.said()).filter(|said| said.word);
        self.one_primary(items, certs_primary);
        self.apart_from_certificates(items, certs);
        let alone = items.len() == 1 && certs_primary.is_none();
        let issuers: Vec<_> = items.iter().map(|said| self.issuer(&said.word, &said.spot, alone)).collect();
        issuers.into_iter().collect()
    }

    fn issuer(&mut self, words: &file::Issuer, spot: &Spot, alone: bool) -> Option<Issuer> {
        let name = self.required(&words.name, spot.missing("name", "name = \"main\""), name);
        let issuer = self.required(
            &words.issuer,
            spot.missing("issuer", "issuer = \"https://id.example.com\", the `iss` of its tokens"),
            some_text("the `iss` of its tokens, like \"https://id.example.com\""),
        );
        let audience = self.audience(&words.audience, spot);
        let algorithms = self.some_texts(
            &words.algorithms,
            spot.missing("algorithms", "algorithms = [\"ES256\"]"),
            algorithm,
        );
        let keys = self.keys(words, spot);
        let refresh = self.value(&words.refresh, Duration::from_secs(600), duration("10s", "24h"));
        let max_stale = self.value(&words.max_stale, Duration::from_secs(86_400), duration("10s", "30d"));
        if let (Some(refresh), Some(max_stale)) = (refresh, max_stale)
            && max_stale < refresh
        {
            let at = words.max_stale.said().or(words.refresh.said()).map_or(spot, |said| &said.spot);
            self.fault(at, Fault::StaleBeforeRefresh { refresh: format!("{}s", refresh.as_secs()) });
        }
        let subject_claim = self.claim(&words.subject_claim, "sub");
        let roles_claim = self.claim(&words.roles_claim, "roles");
        let roles = match &words.roles {
            Field::Absent => Some(Vec::new()),
            Field::Broken => None,
            Field::Said(said) => self.texts(&said.word, role),
        };
        let primary = self.value(&words.primary, alone, |primary| Ok(*primary));
        Some(Issuer {
            name: name?,
            issuer: issuer?,
            audience: audience?,
            algorithms: algorithms?,
            keys: keys?,
            refresh: refresh?,
            max_stale: max_stale?,
            subject_claim: subject_claim?,
            roles_claim: roles_claim?,
            roles: roles?,
            primary: primary?,
        })
    }

    fn audience(&mut self, field: &Field<OneOrMany>, spot: &Spot) -> Option<Vec<String>> {
        let write = "audience = \"https://app.example.com\", the `aud` of tokens meant for this gate";
        let said = self.told(field, spot.missing("audience", write))?;
        let read = some_text("the `aud` of tokens meant for this gate");
        match &said.word {
            OneOrMany::One(one) => self.texts(std::slice::from_ref(one), read),
            OneOrMany::Many(many) if many.is_empty() => {
                self.fault(&said.spot, Fault::Empty { write: "the `aud` of tokens meant for this gate" });
                None
            }
            OneOrMany::Many(many) => self.texts(many, read),
        }
    }

    /// A claim by its path: steps parted by dots, or as a list where a step has dots in it.
    fn claim(&mut self, field: &Field<OneOrMany>, default: &str) -> Option<Vec<String>> {
        let said = match field {
            Field::Absent => return Some(vec![default.to_owned()]),
            Field::Broken => return None,
            Field::Said(said) => said,
        };
        let (found, steps): (String, Vec<String>) = match &said.word {
            OneOrMany::One(one) => (one.word.clone(), one.word.split('.').map(str::to_owned).collect()),
            OneOrMany::Many(many) => (String::new(), many.iter().map(|step| step.word.clone()).collect()),
        };
        let good = !steps.is_empty() && steps.iter().all(|step| !step.is_empty());
        self.keep(&said.spot, if good { Ok(steps) } else { Err(Fault::Claim { found }) })
    }

    fn keys(&mut self, words: &file::Issuer, spot: &Spot) -> Option<KeySource> {
        let plain_allowed = self.value(&words.allow_http_jwks, false, |allow| Ok(*allow));
        let file = self.maybe_named(&words.jwks_file, Holds::KeySet);
        let url = self.optional(&words.jwks_url, keys_url);
        let ca_file = self.maybe_named(&words.ca_file, Holds::Authorities);
        if let (false, Some(url)) = (words.jwks_file.is_absent(), words.jwks_url.said()) {
            self.fault(&url.spot, Fault::KeysTwice);
            return None;
        }
        if words.jwks_file.is_absent() && words.jwks_url.is_absent() {
            self.fault(spot, Fault::KeysMissing);
            return None;
        }
        let (file, url, ca_file) = (file?, url?, ca_file?);
        let secure = url.as_ref().is_some_and(|url| url.scheme_str() == Some("https"));
        if let (false, Some(ca_file)) = (secure, words.ca_file.said()) {
            self.fault(&ca_file.spot, Fault::KeysAuthorities);
        }
        let Some(url) = url else { return file.map(KeySource::File) };
        let here = url
            .authority()
            .and_then(|a| authority(a.as_str(), secure))
            .is_some_and(|(h, _)| is_loopback(h.name()));
        if let (false, false, Some(false), Some(said)) = (secure, here, plain_allowed, words.jwks_url.said())
        {
            self.fault(&said.spot, Fault::KeysPlain);
        }
        Some(KeySource::Url { url, ca_file })
    }

    fn issuers_apart(&mut self, items: &[Said<file::Issuer>]) {
        for (i, said) in items.iter().enumerate() {
            let before = items.get(..i).unwrap_or_default();
            for (of, taken) in [
                (
                    name_of as fn(&file::Issuer) -> Option<&Said<String>>,
                    name_taken as fn(String, String) -> Fault,
                ),
                (iss_of, iss_taken),
            ] {
                let Some(mine) = of(&said.word) else { continue };
                let same = |other: &&Said<file::Issuer>| {
                    of(&other.word).is_some_and(|theirs| theirs.word == mine.word)
                };
                if let Some(first) = before.iter().find(same) {
                    let fault = taken(mine.word.clone(), first.spot.key.clone());
                    self.fault(&mine.spot, fault);
                }
            }
        }
    }

    /// No issuer may have the name by which certificates' subjects are told.
    fn apart_from_certificates(
        &mut self,
        items: &[Said<file::Issuer>],
        certs: Option<&Said<file::ClientCerts>>,
    ) {
        let Some(mine) = certs.and_then(|certs| certs.word.name.said()) else { return };
        let theirs = items.iter().filter_map(|item| name_of(&item.word));
        for taken in theirs.filter(|theirs| theirs.word == mine.word) {
            self.fault(&taken.spot, name_taken(taken.word.clone(), mine.spot.key.clone()));
        }
    }

    /// Where there are several, exactly one issuer's subjects are plain `user:<sub>`.
    fn one_primary(&mut self, items: &[Said<file::Issuer>], certs: Option<&Said<bool>>) {
        let mut primary: Option<&Said<file::Issuer>> = None;
        for item in items {
            let Some(said) = item.word.primary.said().filter(|said| said.word) else { continue };
            match primary {
                None if certs.is_some() => {
                    self.fault(&said.spot, Fault::PrimaryTaken { other: "server.client_certs".to_owned() });
                }
                None => primary = Some(item),
                Some(first) => self.fault(&said.spot, Fault::PrimaryTaken { other: first.spot.key.clone() }),
            }
        }
        let unreadable = items.iter().any(|item| matches!(item.word.primary, Field::Broken));
        if let (None, None, false, [first, _, ..]) = (primary, certs, unreadable, items) {
            self.fault(&first.spot, Fault::PrimaryMissing);
        }
    }
}

fn name_of(issuer: &file::Issuer) -> Option<&Said<String>> {
    issuer.name.said()
}

fn iss_of(issuer: &file::Issuer) -> Option<&Said<String>> {
    issuer.issuer.said()
}

const fn name_taken(found: String, other: String) -> Fault {
    Fault::NameTaken { found, other }
}

const fn iss_taken(found: String, other: String) -> Fault {
    Fault::IssuerTaken { found, other }
}

fn algorithm(text: &str) -> Result<Algorithm, Fault> {
    if text.eq_ignore_ascii_case("none") || text.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("HS"))
    {
        return Err(Fault::AlgorithmSymmetric { found: text.to_owned() });
    }
    choice(text, &Algorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm)))
}

/// A role that an issuer may grant. Upstreams get roles as a list with commas.
fn role(text: &str) -> Result<String, Fault> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',';
    if text.is_empty() || text.starts_with("role:") || text.contains(bad) {
        Err(Fault::Role { found: text.to_owned() })
    } else {
        Ok(text.to_owned())
    }
}

/// Messages do not repeat the URL, since it may hold what is secret.
fn keys_url(text: &str) -> Result<Uri, Fault> {
    let url: Uri = text.parse().map_err(|_| Fault::KeysUrl)?;
    let secure = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Fault::KeysUrl),
    };
    let host = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if text.contains('#') || host.contains('@') {
        return Err(Fault::KeysUrlParts);
    }
    authority(host, secure).map(|_| url.clone()).ok_or(Fault::KeysUrl)
}
