//! `client_certs` of `[server]`, and what hangs on it.

use super::super::error::Fault;
use super::super::file::{self, File};
use super::super::settings::{ClientCerts, Holds, Subject};
use super::super::word::{Field, OneOrMany, Said, Spot};
use super::scalar::{choice, name};
use super::{Check, client_certs, section};

impl Check {
    pub(super) fn client_certs(
        &mut self,
        words: &Field<file::ClientCerts>,
        parent: &Spot,
    ) -> Option<Option<ClientCerts>> {
        if words.is_absent() {
            return Some(None);
        }
        let (words, spot) = section(words, parent, "client_certs")?;
        let name = self.required(&words.name, spot.missing("name", "name = \"mtls\""), name);
        let ca_file = self.named(
            &words.ca_file,
            spot.missing("ca_file", "ca_file = \"clients-ca.pem\""),
            Holds::Authorities,
        );
        let crl_files = match &words.crl_files {
            Field::Absent => Some(Vec::new()),
            Field::Broken => None,
            Field::Said(said) => {
                let files: Vec<_> =
                    said.word.iter().map(|said| self.note(said, Holds::Revocations)).collect();
                files.into_iter().collect()
            }
        };
        let subject = self.subject(&words.subject, &spot);
        let trust_domain = self.optional(&words.trust_domain, trust_domain);
        let spiffe = subject.as_ref().map(|subject| subject.contains(&Subject::Spiffe));
        match (spiffe, words.trust_domain.said()) {
            (Some(true), None) if words.trust_domain.is_absent() => {
                let write = "trust_domain = \"example.org\", which SPIFFE IDs must be of";
                self.fault(&spot.part("trust_domain"), Fault::Missing { write });
            }
            (Some(false), Some(said)) => self.fault(&said.spot, Fault::TrustDomainUnused),
            _ => {}
        }
        let primary = self.value(&words.primary, false, |primary| Ok(*primary));
        Some(Some(ClientCerts {
            name: name?,
            ca_file: ca_file?,
            crl_files: crl_files?,
            subject: subject?,
            trust_domain: trust_domain?,
            primary: primary?,
        }))
    }

    fn subject(&mut self, field: &Field<OneOrMany>, spot: &Spot) -> Option<Vec<Subject>> {
        let write = "subject = \"spiffe\", \"dns\" or \"cn\", or a list of them";
        let said = self.told(field, spot.missing("subject", write))?;
        let read = |text: &str| choice(text, &Subject::ALL);
        match &said.word {
            OneOrMany::One(one) => self.texts(std::slice::from_ref(one), read),
            OneOrMany::Many(many) if many.is_empty() => {
                self.fault(&said.spot, Fault::Empty { write });
                None
            }
            OneOrMany::Many(many) => self.texts(many, read),
        }
    }

    /// Certificates are shown in TLS, to those who ask, who must know whose are good.
    pub(super) fn certificates_fit(&mut self, words: &File) {
        let admin = words.admin.said().map(|said| &said.word);
        let of_admin = admin.and_then(|admin| admin.client_cert.said()).filter(|said| said.word != "off");
        if let (Some(admin), Some(said)) = (admin, of_admin)
            && admin.tls.is_absent()
        {
            self.fault(&said.spot, Fault::CertificatesWithoutTls);
        }
        let Some(server) = words.server.said() else { return self.asked_in_vain(words, of_admin) };
        match client_certs(words) {
            Some(said) if server.word.tls.is_absent() && of_admin.is_none() => {
                self.fault(&said.spot, Fault::CertificatesWithoutTls)
            }
            None if server.word.client_certs.is_absent() => self.asked_in_vain(words, of_admin),
            _ => {}
        }
    }

    fn asked_in_vain(&mut self, words: &File, of_admin: Option<&Said<String>>) {
        if matches!(words.server, Field::Broken) {
            return;
        }
        let services = words.service.said().into_iter().flat_map(|said| &said.word);
        let of_services = services.filter_map(|service| service.word.client_cert.said());
        for said in of_services.chain(of_admin).filter(|said| said.word != "off") {
            self.fault(&said.spot, Fault::CertificatesUnasked);
        }
    }
}

/// SPIFFE-ID §2.1: lower-case letters, digits, `.`, `-` and `_`; at most 255 bytes.
fn trust_domain(text: &str) -> Result<String, Fault> {
    let good = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
    if good { Ok(text.to_owned()) } else { Err(Fault::TrustDomain { found: text.to_owned() }) }
}
