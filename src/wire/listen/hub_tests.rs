//! Any schedule of clients that come and go, with a connection that does what it is told to, sooner or later.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::wire::sql::identifier;

const CHANNELS: [&str; 4] = ["a", "B b", "c\"", "d"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client whose channels are the bits of this.
    Subscribe(u8),
    /// The client of this place among those that there are.
    Unsubscribe(usize),
    Away(usize),
    Home(usize),
    Notify(usize),
    /// The statement of ours is run now, and answered later.
    Run,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1u8..16).prop_map(Step::Subscribe),
        1 => any::<usize>().prop_map(Step::Unsubscribe),
        3 => any::<usize>().prop_map(Step::Away),
        2 => any::<usize>().prop_map(Step::Home),
        4 => (0..CHANNELS.len()).prop_map(Step::Notify),
        3 => Just(Step::Run),
        3 => Just(Step::Answer),
    ];
    proptest::collection::vec(step, 0..80)
}

#[derive(Debug, Default)]
struct Client {
    channels: Vec<Box<[u8]>>,
    told: RefCell<Vec<Vec<u8>>>,
    ready: RefCell<bool>,
    over: RefCell<bool>,
}

fn tell(client: &Rc<Client>, heard: Heard<'_>) {
    match heard {
        Heard::Ready => *client.ready.borrow_mut() = true,
        Heard::Notification(body) => client.told.borrow_mut().push(body.to_vec()),
        Heard::Home => *client.over.borrow_mut() = true,
    }
}

fn body(channel: &str, payload: &str) -> Vec<u8> {
    [&7u32.to_be_bytes(), channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat()
}

/// The connection, and what each client ought to hear.
struct Model {
    hub: Hub<Rc<Client>>,
    clients: BTreeMap<u64, Rc<Client>>,
    listened: BTreeSet<Vec<u8>>,
    said: Option<Vec<u8>>,
    open: BTreeSet<u64>,
    due: BTreeMap<u64, Vec<Vec<u8>>>,
    count: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            hub: Hub::new("private"),
            clients: BTreeMap::new(),
            listened: BTreeSet::new(),
            said: None,
            open: BTreeSet::new(),
            due: BTreeMap::new(),
            count: 0,
        }
    }

    fn pick(&self, at: usize) -> Option<(u64, Rc<Client>)> {
        self.clients.iter().nth(at % self.clients.len().max(1)).map(|(id, client)| (*id, Rc::clone(client)))
    }

    /// The server runs what it was asked.
    fn run(&mut self) {
        let sql = String::from_utf8(self.said.take().unwrap_or_default()).expect("the names are");
        for statement in sql.split_terminator(';') {
            let (verb, name) = statement.split_once(' ').expect("two words");
            let name = identifier(name.as_bytes());
            let changed = match verb {
                "LISTEN" => self.listened.insert(name),
                "UNLISTEN" => self.listened.remove(&name),
                other => panic!("{other}"),
            };
            assert!(changed, "{statement} changes nothing");
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe(bits) => {
                self.count += 1;
                let named = CHANNELS.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                let channels: Vec<Box<[u8]>> = named.map(|(_, name)| name.as_bytes().into()).collect();
                let client = Rc::new(Client { channels: channels.clone(), ..Client::default() });
                self.hub.subscribe(self.count, &channels, Rc::clone(&client), tell);
                self.clients.insert(self.count, client);
            }
            Step::Unsubscribe(at) => {
                let Some((id, _)) = self.pick(at) else { return };
                self.hub.unsubscribe(id);
                self.clients.remove(&id);
                self.open.remove(&id);
            }
            Step::Away(at) => {
                let Some((id, client)) = self.pick(at) else { return };
                if *client.ready.borrow() && !*client.over.borrow() {
                    self.open.insert(id);
                    self.hub.hear(&body("private", &Marker::Away(id).to_string()), tell);
                }
            }
            Step::Home(at) => {
                let Some((id, client)) = self.pick(at) else { return };
                self.hub.hear(&body("private", &Marker::Home(id).to_string()), tell);
                assert_eq!(*client.over.borrow(), self.open.remove(&id));
                if *client.over.borrow() {
                    self.clients.remove(&id);
                }
            }
            Step::Notify(at) => {
                self.count += 1;
                let body = body(CHANNELS[at], &self.count.to_string());
                for id in &self.open {
                    if self.clients[id].channels.iter().any(|name| **name == *CHANNELS[at].as_bytes()) {
                        self.due.entry(*id).or_default().push(body.clone());
                    }
                }
                if self.listened.contains(CHANNELS[at].as_bytes()) {
                    self.hub.hear(&body, tell);
                }
            }
            Step::Run => self.run(),
            Step::Answer => {
                if self.hub.is_asking() {
                    self.run();
                    self.hub.answered(tell);
                }
            }
        }
        if let Some(sql) = self.hub.ask() {
            self.said = Some(sql);
        }
        for (id, client) in &self.clients {
            assert_eq!(*client.told.borrow(), self.due.get(id).cloned().unwrap_or_default(), "client {id}");
        }
    }
}

proptest! {
    #[test]
    fn each_client_hears_its_channels_between_its_markers(steps in steps()) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.step(*step));
        // With all answered, what is listened to is what somebody wants, and whoever waits waits no more.
        while model.hub.is_asking() {
            model.step(Step::Answer);
        }
        let wanted: BTreeSet<Vec<u8>> = model.clients.values().flat_map(|c| c.channels.iter().map(|n| n.to_vec())).collect();
        prop_assert_eq!(&model.listened, &wanted);
        prop_assert_eq!(model.hub.channels(), wanted.len());
        prop_assert!(model.clients.values().all(|client| *client.ready.borrow()));
    }

    #[test]
    fn notifications_of_any_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut hub = Hub::new("p");
        hub.subscribe(1, &[b"a"[..].into()], Rc::new(Client::default()), tell);
        hub.hear(&body, tell);
    }
}

#[test]
fn when_the_connection_is_gone_it_is_known_who_has_moved() {
    let mut hub = Hub::new("p");
    for id in 1..=2 {
        hub.subscribe(id, &[b"a"[..].into()], id, |_, _| {});
    }
    hub.ask().expect("a LISTEN");
    hub.answered(|_, _| {});
    hub.hear(&body("p", "a2"), |_, _| {});
    let mut gone: Vec<_> = hub.disband().collect();
    gone.sort_unstable();
    assert_eq!(gone, [(1, false), (2, true)]);
}
