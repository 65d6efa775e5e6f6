//! A TCP proxy in front of the broker, to lose connections with: cut without a word, or stopped still.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

#[derive(Default)]
struct State {
    connections: Vec<TcpStream>,
    refuses: bool,
    stopped: bool,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    target: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let proxy = Self { address, target: target.to_owned(), shared: Arc::default() };
        let accepting = proxy.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|client| accepting.connect(client)));
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn target(&self) -> String {
        self.target.clone()
    }

    /// Ends every connection and takes no new one.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.0.lock().expect("nobody panics here");
        state.refuses = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets octets lie, in both directions.
    pub(crate) fn stop(&self) {
        self.shared.0.lock().expect("nobody panics here").stopped = true;
    }

    /// Everything as in the beginning.
    pub(crate) fn mend(&self) {
        let mut state = self.shared.0.lock().expect("nobody panics here");
        (state.refuses, state.stopped) = (false, false);
        self.shared.1.notify_all();
    }

    fn connect(&self, client: TcpStream) {
        let mut state = self.shared.0.lock().expect("nobody panics here");
        if state.refuses {
            return;
        }
        let server = TcpStream::connect(&self.target).expect("the broker runs");
        let twin = |stream: &TcpStream| stream.try_clone().expect("a handle");
        state.connections.extend([twin(&client), twin(&server)]);
        drop(state);
        self.pump(twin(&client), twin(&server));
        self.pump(server, client);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let proxy = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            loop {
                let octets = from.read(&mut buffer).unwrap_or(0);
                proxy.wait_while_stopped();
                if octets == 0 || to.write_all(&buffer[..octets]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn wait_while_stopped(&self) {
        let state = self.shared.0.lock().expect("nobody panics here");
        drop(self.shared.1.wait_while(state, |state| state.stopped).expect("nobody panics here"));
    }
}
