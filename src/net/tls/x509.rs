//! As much of a certificate (RFC 5280) as rustls keeps to itself: with which hash it was signed, and whom it names.
//!
//! Nothing is verified here. Whatever does not read as DER has no hash and no names; nothing is allocated from a length.

use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

/// Names read of one certificate; the rest counts for nothing.
const NAMES_MAX: usize = 64;

const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
/// Of TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Of GeneralName.
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.2.840.113549.1.1.10, whose hash stands among its parameters.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// Signature algorithms (RFC 3279, RFC 4055, RFC 5758) and the hash that binds a channel to a certificate signed so.
const SIGNATURES: &[(&[u8], &Algorithm)] = &[
    // md5WithRSAEncryption, sha1WithRSAEncryption, ecdsa-with-SHA1: RFC 5929 has SHA-256 in their place.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &SHA256),
    // sha256WithRSAEncryption and its longer brothers
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &SHA512),
    // ecdsa-with-SHA256 and its longer brothers
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &SHA384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &SHA512),
];

/// id-sha1, id-sha256, id-sha384, id-sha512, as RSASSA-PSS names them.
const HASHES: &[(&[u8], &Algorithm)] = &[
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512),
];

/// The channel binding `tls-server-end-point` (RFC 5929 §4.1): a hash of the server's certificate.
///
/// `None` where the signature has no hash of its own (Ed25519, for which nothing is specified, and libpq gives up, too) or
/// one that is not known here.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(digest::digest(hash(certificate)?, certificate).as_ref().to_vec())
}

fn hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    let mut outer = Der(Der(certificate).expect(SEQUENCE)?);
    outer.expect(SEQUENCE)?;
    let mut algorithm = Der(outer.expect(SEQUENCE)?);
    match algorithm.expect(OID)? {
        RSA_PSS => pss_hash(algorithm.expect(SEQUENCE)?),
        other => known(SIGNATURES, other),
    }
}

/// RSASSA-PSS-params (RFC 4055 §3.1): a missing hash is SHA-1.
fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    match Der(parameters).expect(0xa0) {
        None => Some(&SHA256),
        Some(explicit) => known(HASHES, Der(Der(explicit).expect(SEQUENCE)?).expect(OID)?),
    }
}

fn known(table: &[(&[u8], &'static Algorithm)], oid: &[u8]) -> Option<&'static Algorithm> {
    table.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash)
}

/// Whom a certificate names: the subject's first common name, as PostgreSQL has it, and its alternative names of the kinds
/// host and mailbox.
pub(crate) fn names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let _ = collect_names(certificate, &mut names);
    names
}

fn collect_names(certificate: &[u8], names: &mut Vec<String>) -> Option<()> {
    let mut body = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    // The version is left out of a certificate of the first.
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        body.next()?;
    }
    names.extend(common_name(body.expect(SEQUENCE)?));
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            alternative_names(Der(content).expect(SEQUENCE)?, names);
        }
    }
    Some(())
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut sets = Der(subject);
    while let Some(set) = sets.expect(SET) {
        let mut attributes = Der(set);
        while let Some(attribute) = attributes.expect(SEQUENCE) {
            let mut attribute = Der(attribute);
            if attribute.expect(OID)? == COMMON_NAME {
                return attribute.next().and_then(|(tag, content)| text(tag, content));
            }
        }
    }
    None
}

fn alternative_names(extensions: &[u8], names: &mut Vec<String>) -> Option<()> {
    let mut extensions = Der(extensions);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut extension = Der(extension);
        if extension.expect(OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        // `critical` may stand between.
        let value = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTETS)?.1;
        let mut general = Der(Der(value).expect(SEQUENCE)?);
        while let Some((tag, content)) = general.next() {
            if matches!(tag, DNS_NAME | RFC822_NAME) && names.len() < NAMES_MAX {
                names.extend(text(IA5_STRING, content));
            }
        }
    }
    Some(())
}

/// A name with a zero byte in it is none: somebody hopes that it will be cut off there.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    let legible = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) && !content.is_empty() && !content.contains(&0);
    legible.then(|| std::str::from_utf8(content).ok().map(str::to_owned)).flatten()
}

/// Elements one behind another.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next one.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Four bytes of length are more than any certificate has.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next one, if it has this tag; else nothing is taken.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&tag) {
            return None;
        }
        self.next().map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams), algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let mut params = CertificateParams::default();
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, bytes) in [(&rcgen::PKCS_ECDSA_P256_SHA256, 32), (&rcgen::PKCS_ECDSA_P384_SHA384, 48)] {
            let certificate = certificate(|_| {}, algorithm);
            assert_eq!(end_point(&certificate).unwrap().len(), bytes, "{algorithm:?}");
        }
        assert_eq!(end_point(&certificate(|_| {}, &rcgen::PKCS_ED25519)), None);
    }

    /// A certificate in outline: an empty body, and this AlgorithmIdentifier.
    fn signed_with(algorithm: &[u8]) -> Option<usize> {
        let content = [&[SEQUENCE, 0, SEQUENCE, algorithm.len() as u8], algorithm].concat();
        hash(&[&[SEQUENCE, content.len() as u8], &content[..]].concat()).map(Algorithm::output_len)
    }

    #[test]
    fn old_hashes_make_way_for_sha_256_and_unknown_ones_for_nothing() {
        let rsa = |last: u8| [&[OID, 9][..], &RSA_PSS[..8], &[last], &[5, 0]].concat();
        for (last, bytes) in [(4, Some(32)), (5, Some(32)), (11, Some(32)), (12, Some(48)), (13, Some(64)), (14, None)] {
            assert_eq!(signed_with(&rsa(last)), bytes, "{last}");
        }
        let pss =
            |parameters: &[u8]| signed_with(&[&[OID, 9], RSA_PSS, &[SEQUENCE, parameters.len() as u8], parameters].concat());
        assert_eq!(pss(&[]), Some(32), "SHA-1, when nothing is said");
        let sha512 = [&[0xa0, 13, SEQUENCE, 11, OID, 9], HASHES[3].0].concat();
        assert_eq!(pss(&sha512), Some(64));
        assert_eq!(pss(&[0xa0, 0]), None);
    }

    #[test]
    fn the_common_name_and_the_alternative_ones() {
        let certificate = certificate(
            |params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(DnType::OrganizationName, "ann");
                params.distinguished_name.push(DnType::CommonName, "Änn");
                params.subject_alt_names.push(SanType::DnsName("ann.example".try_into().unwrap()));
                params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
                params.subject_alt_names.push(SanType::Rfc822Name("ann@example.com".try_into().unwrap()));
            },
            &rcgen::PKCS_ECDSA_P256_SHA256,
        );
        assert_eq!(names(&certificate), ["Änn", "ann.example", "ann@example.com"]);
    }

    #[test]
    fn a_name_with_a_zero_byte_is_none() {
        let certificate = certificate(
            |params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("postgres\0.evil".into()));
            },
            &rcgen::PKCS_ECDSA_P256_SHA256,
        );
        assert_eq!(names(&certificate), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = (end_point(&bytes), names(&bytes));
            let mut certificate = certificate(|_| {}, &rcgen::PKCS_ECDSA_P256_SHA256);
            let at = at.index(certificate.len());
            certificate[at] = byte;
            let _ = (end_point(&certificate), names(&certificate));
            let _ = (end_point(&certificate[..at]), names(&certificate[..at]));
        }
    }
}
