use std::num::NonZeroU32;

use proptest::prelude::*;

use super::client::{self, ScramClient, ServerFault};
use super::message::{ClientFinal, ClientFirst};
use super::server::{self, Binding, Candidate, Rejection};
use crate::auth::keys::{ClientKey, ScramKeys, ServerKey};
use crate::auth::process_secret::ProcessSecret;
use crate::auth::verifier::Verifier;
use crate::error::SqlState;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(7).unwrap();

fn keys(password: &str) -> ScramKeys {
    ScramKeys::derive(password, b"salt", ITERATIONS)
}

fn known(password: &str) -> Candidate {
    Candidate::Known(Verifier::from_keys(&keys(password), b"salt", ITERATIONS))
}

/// The whole exchange between our client and our server.
fn exchange(candidate: Candidate, client_keys: &ScramKeys) -> Result<ScramKeys, Rejection> {
    let client = ScramClient::new(client::Binding::No).unwrap();
    let (server_first, awaiting) = server::begin(client.client_first().as_bytes(), candidate, Binding::NotOffered)?;
    let (client_final, signature) = client.server_first(server_first.as_bytes()).unwrap().respond(client_keys);
    let proven = awaiting.finish(client_final.as_bytes())?;
    signature.verify(proven.server_final.as_bytes()).unwrap();
    Ok(proven.keys)
}

#[test]
fn the_right_password_proves_both_sides_and_gives_up_the_clients_key() {
    let recovered = exchange(known("secret"), &keys("secret")).unwrap();
    assert_eq!(recovered, keys("secret"));
    // And with what was recovered one can log in where the same verifier is.
    assert!(exchange(known("secret"), &recovered).is_ok());
}

#[test]
fn the_wrong_password_and_the_wrong_user_fail_alike() {
    assert_eq!(exchange(known("secret"), &keys("Secret")).unwrap_err(), Rejection::WrongPassword);
    let secret = ProcessSecret::generate().unwrap();
    let nobody = Candidate::Unknown(secret.mock_verifier("p", "nobody"));
    let verifier = secret.mock_verifier("p", "nobody");
    let any = ScramKeys::derive("x", &verifier.salt, verifier.iterations);
    assert_eq!(exchange(nobody, &any).unwrap_err(), Rejection::WrongPassword);
}

#[test]
fn trap_59_an_unknown_user_fails_even_with_the_right_keys() {
    let Candidate::Known(verifier) = known("secret") else { unreachable!() };
    assert_eq!(exchange(Candidate::Unknown(verifier), &keys("secret")).unwrap_err(), Rejection::WrongPassword);
}

#[test]
fn rfc_7677_example() {
    let client = ScramClient::with(client::Binding::No, "user", "rOprNGfwEbeRWgbNEkqO");
    assert_eq!(client.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let challenge = client.server_first(server_first.as_bytes()).unwrap();
    let keys = ScramKeys::derive("pencil", &challenge.salt, challenge.iterations);
    let (client_final, awaiting) = challenge.respond(&keys);
    assert_eq!(
        client_final,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    awaiting.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
}

#[test]
fn trap_63_first_messages_that_are_refused() {
    for (message, code) in [
        (&b""[..], SqlState::PROTOCOL_VIOLATION),
        (b"p=tls-server-end-point,,n=,r=abc", SqlState::PROTOCOL_VIOLATION),
        (b"x,,n=,r=abc", SqlState::PROTOCOL_VIOLATION),
        (b"n,a=admin,n=,r=abc", SqlState::FEATURE_NOT_SUPPORTED),
        (b"n,,m=ext,n=,r=abc", SqlState::FEATURE_NOT_SUPPORTED),
        (b"n,,r=abc", SqlState::PROTOCOL_VIOLATION),
        (b"n,,n=", SqlState::PROTOCOL_VIOLATION),
        (b"n,,n=,r=", SqlState::PROTOCOL_VIOLATION),
        (b"n,,n=,r=a b", SqlState::PROTOCOL_VIOLATION),
        (b"n,,n=,r=a\0", SqlState::PROTOCOL_VIOLATION),
        (b"n,,n=,r=\xff", SqlState::PROTOCOL_VIOLATION),
    ] {
        match server::begin(message, known("secret"), Binding::NotOffered).map(|(first, _)| first) {
            Err(Rejection::Malformed(error)) => assert_eq!(error.code, code, "{message:?}"),
            other => panic!("{message:?}: {other:?}"),
        }
    }
}

#[test]
fn trap_63_the_flag_y_is_taken_and_must_be_repeated() {
    let run = |flag: &str, binding: &str| {
        let first = format!("{flag},,n=ignored,r=abc");
        let (server_first, awaiting) = server::begin(first.as_bytes(), known("secret"), Binding::NotOffered).unwrap();
        let client = ScramClient::with(client::Binding::No, "ignored", "abc");
        let (last, _) = client.server_first(server_first.as_bytes()).unwrap().respond(&keys("secret"));
        awaiting.finish(last.replace("c=biws", binding).as_bytes()).map(|_| ())
    };
    assert_eq!(run("n", "c=biws"), Ok(()));
    // Another binding than was announced is an error before the proof is looked at, the right one is not.
    assert!(matches!(run("y", "c=biws"), Err(Rejection::Malformed(_))));
    assert!(matches!(run("n", "c=eSws"), Err(Rejection::Malformed(_))));
    assert_eq!(run("y", "c=eSws"), Err(Rejection::WrongPassword));
}

#[test]
fn a_proof_bound_to_the_certificate_is_good_for_that_certificate_alone() {
    let exchange = |theirs: &[u8], ours: &[u8]| {
        let client = ScramClient::new(client::Binding::EndPoint(theirs.into())).unwrap();
        assert_eq!(client.mechanism(), "SCRAM-SHA-256-PLUS");
        let first = client.client_first();
        let (server_first, awaiting) = server::begin(first.as_bytes(), known("secret"), Binding::EndPoint(ours)).unwrap();
        let (last, signature) = client.server_first(server_first.as_bytes()).unwrap().respond(&keys("secret"));
        let proven = awaiting.finish(last.as_bytes())?;
        signature.verify(proven.server_final.as_bytes()).unwrap();
        Ok(proven.keys)
    };
    assert_eq!(exchange(b"hash", b"hash"), Ok(keys("secret")));
    let Err(Rejection::Malformed(error)) = exchange(b"hash", b"other") else { panic!("it was taken") };
    assert_eq!((error.code, &*error.message), (SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed"));
}

#[test]
fn trap_63_the_flag_has_to_fit_the_mechanism_and_y_is_a_downgrade() {
    let begin = |flag: &str, binding| {
        let first = format!("{flag},,n=,r=abc");
        match server::begin(first.as_bytes(), known("secret"), binding) {
            Ok(_) => None,
            Err(Rejection::Malformed(error)) => Some(error.code),
            Err(other) => panic!("{other:?}"),
        }
    };
    let (downgrade, violation) = (Some(SqlState::INVALID_AUTHORIZATION), Some(SqlState::PROTOCOL_VIOLATION));
    let end_point = "p=tls-server-end-point";
    for (flag, not_offered, not_chosen, chosen) in [
        ("n", None, None, violation),
        ("y", None, downgrade, violation),
        (end_point, violation, violation, None),
        ("p=tls-unique", violation, violation, violation),
    ] {
        assert_eq!(begin(flag, Binding::NotOffered), not_offered, "{flag}");
        assert_eq!(begin(flag, Binding::NotChosen), not_chosen, "{flag}");
        assert_eq!(begin(flag, Binding::EndPoint(b"hash")), chosen, "{flag}");
    }
}

#[test]
fn what_a_client_says_of_binding() {
    let first = |binding| ScramClient::with(binding, "", "abc").client_first();
    assert_eq!(first(client::Binding::No), "n,,n=,r=abc");
    assert_eq!(first(client::Binding::NotOffered), "y,,n=,r=abc");
    assert_eq!(first(client::Binding::EndPoint((*b"hash").into())), "p=tls-server-end-point,,n=,r=abc");
    let challenge = ScramClient::with(client::Binding::NotOffered, "", "abc").server_first(b"r=abcd,s=YQ==,i=1").unwrap();
    assert!(challenge.respond(&keys("secret")).0.starts_with("c=eSws,r=abcd,p="));
}

#[test]
fn trap_63_last_messages_that_are_refused() {
    let last = |change: fn(String) -> String| {
        let client = ScramClient::with(client::Binding::No, "", "abc");
        let (server_first, awaiting) =
            server::begin(client.client_first().as_bytes(), known("secret"), Binding::NotOffered).unwrap();
        let (message, _) = client.server_first(server_first.as_bytes()).unwrap().respond(&keys("secret"));
        awaiting.finish(change(message).as_bytes()).map(|_| ())
    };
    assert_eq!(last(|message| message), Ok(()));
    let mut malformed: Vec<fn(String) -> String> = vec![|_| String::new(), |message| message.replace(",r=", ",r=x")];
    malformed.push(|message| message.replace(",r=abc", ",r=abcd"));
    malformed.push(|message| message.split(",p=").next().unwrap().to_owned());
    malformed.push(|message| message + "AAAA");
    malformed.push(|message| message.replace(",p=", ",p=!"));
    malformed.push(|message| message + ",x=y");
    for change in malformed {
        assert!(matches!(last(change), Err(Rejection::Malformed(_))));
    }
}

#[test]
fn a_hostile_server_gets_nowhere() {
    let answer = |message: &str| {
        ScramClient::with(client::Binding::No, "", "abc").server_first(message.as_bytes()).map(|_| ()).unwrap_err()
    };
    assert_eq!(answer("r=abd,s=YQ==,i=1"), ServerFault::Nonce);
    assert_eq!(answer("r=abc,s=YQ==,i=1"), ServerFault::Nonce);
    assert_eq!(answer(&format!("r=abc{},s=YQ==,i=1", "x".repeat(2000))), ServerFault::Nonce);
    for count in ["0", "10000001", "-1", "99999999999999999999"] {
        assert_eq!(answer(&format!("r=abcd,s=YQ==,i={count}")), ServerFault::Iterations, "{count}");
    }
    for message in ["", "m=x,r=abcd,s=YQ==,i=1", "r=abcd,s=?,i=1", "r=abcd,s=,i=1", "r=abcd,i=1"] {
        assert!(matches!(answer(message), ServerFault::Malformed(_)), "{message}");
    }
}

#[test]
fn trap_68_a_server_that_does_not_know_the_password_is_noticed() {
    let signature = |last: &[u8]| {
        let challenge = ScramClient::with(client::Binding::No, "", "abc").server_first(b"r=abcd,s=YQ==,i=1").unwrap();
        challenge.respond(&keys("secret")).1.verify(last).unwrap_err()
    };
    assert_eq!(signature(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), ServerFault::Signature);
    assert_eq!(signature(b"v="), ServerFault::Signature);
    assert_eq!(signature(b"e=invalid-proof"), ServerFault::Refused("invalid-proof".into()));
    assert!(matches!(signature(b"w=1"), ServerFault::Malformed(_)));
}

#[test]
fn nothing_secret_is_shown() {
    let client = ScramClient::with(client::Binding::No, "", "abc");
    let (server_first, awaiting) = server::begin(client.client_first().as_bytes(), known("secret"), Binding::NotOffered).unwrap();
    let challenge = client.server_first(server_first.as_bytes()).unwrap();
    let shown = format!("{awaiting:?} {challenge:?} {:?} {:?}", keys("secret"), challenge_signature());
    for hidden in ["secret", "Signature(", "[1", "[0x"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

fn challenge_signature() -> client::AwaitingSignature {
    let keys = ScramKeys { client: ClientKey::new([1; 32]), server: ServerKey::new([2; 32]) };
    ScramClient::with(client::Binding::No, "", "abc").server_first(b"r=abcd,s=YQ==,i=1").unwrap().respond(&keys).1
}

proptest! {
    #[test]
    fn parsers_never_panic(message: Vec<u8>, text in "[nyp],[a=]*,?(n=)?[a-z]*,?(r=)?[!-~]{0,20}(,p=)?[A-Za-z=]*") {
        for bytes in [&message[..], text.as_bytes()] {
            let _ = (ClientFirst::parse(bytes), ClientFinal::parse(bytes));
            let _ = server::begin(bytes, known("x"), Binding::NotOffered).map(|(_, awaiting)| awaiting.finish(bytes).is_ok());
            let _ = ScramClient::with(client::Binding::No, "", "a").server_first(bytes).is_ok();
            let _ = challenge_signature().verify(bytes);
        }
    }

    #[test]
    fn any_password_works(password in "\\PC{0,30}") {
        prop_assert_eq!(exchange(known(&password), &keys(&password)).unwrap(), keys(&password));
    }
}
