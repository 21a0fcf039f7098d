//! Against a server that says what a test wants, also what no server should.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::{Logins, url};

/// AuthenticationOk and ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
/// ParseComplete, one parameter, two columns, ReadyForQuery.
const PREPARED: &[u8] =
    b"1\0\0\0\x04t\0\0\0\x0a\0\x01\0\0\0\x13T\0\0\0\x2e\0\x02a\0\0\0\0\0\0\0\0\0\0\x13\0\x40\xff\xff\xff\xff\0\0b\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0Z\0\0\0\x05I";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(4 + body.len() as u32).to_be_bytes(), body].concat()
}

fn row(user: &str, secret: &str) -> Vec<u8> {
    let value = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    message(b'D', &[vec![0, 2], value(user), value(secret)].concat())
}

fn answered(rows: &[Vec<u8>]) -> Vec<u8> {
    [message(b'2', b""), rows.concat(), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

fn lookup(port: u16) -> Lookup {
    let (upstream, _) = url::parse(&format!("postgres://asker@127.0.0.1:{port}/d?sslmode=disable")).unwrap();
    let project = Project {
        disabled: None,
        name: "p".into(),
        server_name: None,
        upstream,
        users: Vec::new(),
        logins: Logins::default(),
        pool_size: 1,
        min_pool_size: 0,
        max_server_connections: 1,
    };
    let (second, project) = (Duration::from_secs(1), Arc::new(project));
    let tls = Arc::new(TlsContext::load(&project.upstream.tls).unwrap());
    let mut lookup = Lookup::of(&project, &tls, &Arc::new(KeyCache::new().unwrap()), &timeouts()).unwrap();
    let shared = Arc::get_mut(&mut lookup.0).unwrap();
    (shared.limit, shared.patience) = (20 * second, Duration::ZERO);
    lookup
}

fn timeouts() -> Timeouts {
    let loaded = crate::config::load(&crate::config::Sources {
        flags: [("upstream", "postgres://h/d".to_owned())].into(),
        ..crate::config::Sources::default()
    });
    loaded.unwrap().settings.timeouts.clone()
}

/// One whole write of the client's, which ends with a Sync or is the startup packet.
async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        heard.extend_from_slice(&piece[..count]);
        if count == 0 || heard.ends_with(b"S\0\0\0\x04") || heard.ends_with(b"\0\0") {
            return heard;
        }
    }
}

/// Accepts again and again, and prepares; each question is told to `questions`, and answered with what `answers` has next.
async fn serve(listener: TcpListener, questions: mpsc::UnboundedSender<Vec<u8>>, mut answers: mpsc::UnboundedReceiver<Vec<u8>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        heard(&mut stream).await;
        stream.write_all(WELCOME).await.unwrap();
        heard(&mut stream).await;
        stream.write_all(PREPARED).await.unwrap();
        loop {
            let question = heard(&mut stream).await;
            if question.is_empty() || question.starts_with(b"X") {
                break;
            }
            questions.send(question).unwrap();
            let Some(answer) = answers.recv().await else { return };
            if stream.write_all(&answer).await.is_err() || answer.is_empty() {
                break;
            }
        }
    }
}

struct Scene {
    lookup: Arc<Lookup>,
    questions: mpsc::UnboundedReceiver<Vec<u8>>,
    answers: mpsc::UnboundedSender<Vec<u8>>,
}

async fn scene() -> Scene {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lookup = Arc::new(lookup(listener.local_addr().unwrap().port()));
    let ((ask, questions), (answers, say)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    tokio::spawn(serve(listener, ask, say));
    Scene { lookup, questions, answers }
}

impl Scene {
    fn ask(&self, user: &'static str) -> tokio::task::JoinHandle<Told> {
        let lookup = Arc::clone(&self.lookup);
        tokio::spawn(async move { lookup.ask(user).await })
    }

    fn answer(&self, bytes: &[u8]) {
        self.answers.send(bytes.to_vec()).unwrap();
    }
}

fn secret(told: Result<Told, tokio::task::JoinError>) -> String {
    match &*told.unwrap().unwrap() {
        Answer::Role(RoleSecret::Plain(password)) => password.reveal().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_question_that_was_asked_before_a_login_began_does_not_answer_it() {
    let mut scene = scene().await;
    let first = scene.ask("ann");
    let question = scene.questions.recv().await.unwrap();
    assert!(question.windows(3).any(|w| w == b"ann"));
    // These come while it is under way: they share the next one, whoever they are.
    let later = [scene.ask("ann"), scene.ask("ann"), scene.ask("bob")];
    tokio::task::yield_now().await;
    scene.answer(&answered(&[row("ann", "before")]));
    assert_eq!(secret(first.await), "before");
    let question = scene.questions.recv().await.unwrap();
    let order = if question.windows(3).position(|w| w == b"ann") < question.windows(3).position(|w| w == b"bob") {
        [row("ann", "after"), row("bob", "bobs")]
    } else {
        [row("bob", "bobs"), row("ann", "after")]
    };
    assert_eq!(question.windows(3).filter(|w| *w == b"ann").count(), 1, "each user once");
    scene.answer(&order.map(|row| answered(&[row])).concat());
    let [one, other, bob] = later;
    assert_eq!((secret(one.await), secret(other.await), secret(bob.await)), ("after".into(), "after".into(), "bobs".into()));
}

#[tokio::test]
async fn answers_that_are_none_are_errors_and_nothing_worse() {
    for answer in [
        &b""[..],
        b"E\0\0\0\x05\0",
        &message(b'E', b"SERROR\0C42501\0Mno\0\0"),
        &message(b'D', b"\0\x02\0\0\0\x01a"),
        &message(b'D', b"\x7f\xff"),
        &message(b'G', b"\0\0\0"),
        &message(b'R', b"\0\0\0\0"),
        b"D\x7f\xff\xff\xff",
        b"Z\0\0\0\x03",
    ] {
        let mut scene = scene().await;
        let asked = scene.ask("ann");
        scene.questions.recv().await.unwrap();
        // What needs more to be an answer gets it.
        scene.answer(&[answer, if answer.is_empty() { b"" } else { b"Z\0\0\0\x05I" }].concat());
        assert!(asked.await.unwrap().is_err(), "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn an_error_of_one_question_is_nobody_elses() {
    let mut scene = scene().await;
    let first = scene.ask("ann");
    scene.questions.recv().await.unwrap();
    let (odd, bob) = (scene.ask("odd"), scene.ask("bob"));
    tokio::task::yield_now().await;
    scene.answer(&answered(&[row("ann", "anns")]));
    assert_eq!(secret(first.await), "anns");
    scene.questions.recv().await.unwrap();
    let error = [message(b'E', b"SERROR\0C22021\0Minvalid byte sequence\0\0"), message(b'Z', b"I")].concat();
    scene.answer(&[error, answered(&[row("bob", "bobs")])].concat());
    assert!(matches!(&*odd.await.unwrap().unwrap_err(), LookupError::Refused(_)));
    assert_eq!(secret(bob.await), "bobs");
}

#[tokio::test]
async fn no_row_is_nobody_and_so_is_a_row_of_somebody_else() {
    let mut scene = scene().await;
    for (rows, expected) in [
        (vec![], Nobody::Unknown),
        (vec![row("bob", "pw")], Nobody::Another),
        (vec![row("ann", "pw"), row("ann", "pw")], Nobody::Several),
        (vec![row("ann", "")], Nobody::NoPassword),
    ] {
        let asked = scene.ask("ann");
        scene.questions.recv().await.unwrap();
        scene.answer(&answered(&rows));
        assert!(matches!(*asked.await.unwrap().unwrap(), Answer::Nobody(why) if why == expected), "{expected:?}");
    }
}
