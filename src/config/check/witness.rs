//! `[log] witnesses` and `[[witness]]`.

use std::time::Duration;

use http::Uri;

use super::super::error::Fault;
use super::super::file;
use super::super::settings::{Holds, Witness, WitnessMode, Witnessing};
use super::super::word::{Field, Said, Spot};
use super::scalar::{choice, duration, name, number};
use super::{Check, section};
use crate::audit::checkpoint::CosignerKey;

impl Check {
    /// `log` is where `[log]` stands.
    pub(super) fn witnessing(
        &mut self,
        words: &Field<file::Witnesses>,
        witnesses: &Field<Vec<Said<file::Witness>>>,
        log: &Spot,
    ) -> Option<Witnessing> {
        let items = match witnesses {
            Field::Absent => &[][..],
            Field::Broken => return None,
            Field::Said(said) => &said.word,
        };
        let alone = words.said().filter(|_| items.is_empty());
        if let Some(said) = alone {
            self.fault(&said.spot, Fault::NoWitnesses);
        }
        self.witnesses_apart(items);
        let read: Vec<_> = items.iter().map(|said| self.witness(&said.word, &said.spot)).collect();
        let (words, _) = section(words, log, "witnesses")?;
        let mode = self.value(&words.mode, WitnessMode::Async, |text| {
            choice(text, &WitnessMode::ALL.map(|mode| (mode.as_str(), mode)))
        });
        let most = u64::try_from(items.len().max(1)).unwrap_or(u64::MAX);
        let quorum = self.value(&words.quorum, items.len(), number(1, most));
        let max_age = self.value(&words.max_age, Duration::from_secs(60), duration("1s", "30d"));
        let witnesses = read.into_iter().collect::<Option<Vec<_>>>();
        Some(Witnessing { mode: mode?, quorum: quorum?, max_age: max_age?, witnesses: witnesses? })
    }

    fn witness(&mut self, words: &file::Witness, spot: &Spot) -> Option<Witness> {
        let name = self.required(&words.name, spot.missing("name", "name = \"north\""), name);
        let url = self.required(
            &words.url,
            spot.missing("url", "url = \"https://witness.example.com\", its submission prefix"),
            url,
        );
        let key = self.required(
            &words.vkey,
            spot.missing("vkey", "vkey = \"…\", as `portcullis witness keygen` printed it"),
            |text| CosignerKey::parse(text).map_err(Fault::WitnessKey),
        );
        let ca_file = self.maybe_named(&words.ca_file, Holds::Authorities);
        let (url, ca_file) = (url?, ca_file?);
        if let (true, Some(said)) = (url.scheme_str() != Some("https"), words.ca_file.said()) {
            self.fault(&said.spot, Fault::WitnessAuthorities);
        }
        Some(Witness { name: name?, url, key: key?, ca_file })
    }

    /// One witness counts once, whatever it is called.
    fn witnesses_apart(&mut self, items: &[Said<file::Witness>]) {
        for (i, item) in items.iter().enumerate() {
            let before = items.get(..i).unwrap_or_default();
            let key = |word: &str| CosignerKey::parse(word).ok().map(|key| key.public());
            if let Some(mine) = item.word.name.said() {
                let same = |other: &&Said<file::Witness>| {
                    other.word.name.said().is_some_and(|theirs| theirs.word == mine.word)
                };
                if let Some(first) = before.iter().find(same) {
                    let other = first.spot.key.clone();
                    self.fault(&mine.spot, Fault::NameTaken { found: mine.word.clone(), other });
                }
            }
            if let Some(mine) = item.word.vkey.said() {
                let same = |other: &&Said<file::Witness>| {
                    let theirs = other.word.vkey.said().and_then(|theirs| key(&theirs.word));
                    theirs.is_some() && theirs == key(&mine.word)
                };
                if let Some(first) = before.iter().find(same) {
                    let other = first.spot.key.clone();
                    self.fault(&mine.spot, Fault::WitnessTwice { other });
                }
            }
        }
    }
}

/// Where a witness takes checkpoints: an http or https URL, which `/add-checkpoint` is added to. What is sent there is
/// public, and what comes back is signed, so plain http will do.
fn url(text: &str) -> Result<Uri, Fault> {
    let url: Uri = text.trim_end_matches('/').parse().map_err(|_| Fault::WitnessUrl)?;
    let web = matches!(url.scheme_str(), Some("http" | "https"));
    let bare = !text.contains(['?', '#']) && url.authority().is_some_and(|host| !host.as_str().contains('@'));
    if web && bare { Ok(url) } else { Err(Fault::WitnessUrl) }
}
