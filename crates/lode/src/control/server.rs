//! Serving the control socket from `lode up`.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lode_core::{ErrorKind, Place, Problem};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::client::{FrameWriter, send_frame};
use super::{FrameKind, Message, REQUEST_BYTES_MAX, Request, short_name};
use crate::app::{App, House, run_dir, socket_path};
use crate::args::Cli;
use crate::config::{Lake, Settings, Surroundings};
use crate::output::Output;

/// The open socket. Closing it removes its file.
pub(crate) struct Server {
    socket: PathBuf,
    addresses: PathBuf,
    shutdown: CancellationToken,
    accept: Option<std::thread::JoinHandle<()>>,
    clients: Arc<Mutex<Vec<Client>>>,
}

/// Commands at a time; more wait in the socket's queue.
const CLIENTS_MAX: usize = 64;

/// How long the end of `lode up` waits for the commands of its clients before it cuts their streams.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// One command that runs for a client.
struct Client {
    thread: std::thread::JoinHandle<()>,
    stream: UnixStream,
}

/// Binds the socket (readable by this user alone) and serves it. The caller holds the data lock, so a socket file that
/// is there belongs to a dead process.
pub(crate) fn start(
    settings: &Settings,
    house: &Arc<House>,
    runtime: tokio::runtime::Handle,
) -> Result<Server, Problem> {
    let socket = socket_path(settings);
    let listener = bind(&socket).map_err(|error| {
        Problem::new(ErrorKind::Unavailable, "the control socket cannot be opened")
            .cause(error)
            .at(Place::of(socket.display().to_string()))
            .fix("check that the data folder can be written, or set LODE_DATA_DIR to a folder on a local disk")
    })?;
    let addresses = run_dir(settings).join("addresses.json");
    let content = serde_json::json!({ "pid": std::process::id(), "control": socket.display().to_string() });
    std::fs::write(&addresses, format!("{content}\n")).map_err(|error| {
        Problem::new(ErrorKind::Unavailable, "the file of addresses cannot be written")
            .cause(error)
            .at(Place::of(addresses.display().to_string()))
            .fix("check that the data folder can be written")
    })?;
    let shutdown = CancellationToken::new();
    let clients = Arc::new(Mutex::new(Vec::new()));
    let shared = Shared {
        house: Arc::clone(house),
        data_dir: settings.data_dir.clone(),
        lake: settings.lake.clone(),
        runtime,
        shutdown: shutdown.clone(),
    };
    let accept = {
        let clients = Arc::clone(&clients);
        let shared = Arc::new(shared);
        thread("control", move || accept_loop(&listener, &shared, &clients))?
    };
    Ok(Server { socket, addresses, shutdown, accept: Some(accept), clients })
}

struct Shared {
    house: Arc<House>,
    data_dir: PathBuf,
    lake: Lake,
    runtime: tokio::runtime::Handle,
    shutdown: CancellationToken,
}

fn thread<F: FnOnce() + Send + 'static>(name: &str, work: F) -> Result<std::thread::JoinHandle<()>, Problem> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        Problem::new(ErrorKind::Unavailable, "a thread could not start")
            .cause(error)
            .fix("raise the limit of processes")
    })
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (path, _handle) = short_name(socket)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn accept_loop(listener: &UnixListener, shared: &Arc<Shared>, clients: &Mutex<Vec<Client>>) {
    for stream in listener.incoming() {
        if shared.shutdown.is_cancelled() {
            return;
        }
        let Ok(stream) = stream else {
            // Out of file handles, most likely: let some be given back.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let mut clients = clients.lock();
        clients.retain(|client| !client.thread.is_finished());
        if clients.len() >= CLIENTS_MAX {
            let mut stream = stream;
            let _ = send_frame(
                &mut stream,
                FrameKind::Err,
                b"error: `lode up` is running too many commands\n  fix:   try again\n",
            );
            let _ = send_frame(&mut stream, FrameKind::Exit, &[ErrorKind::Unavailable.exit_code()]);
            continue;
        }
        let shared = Arc::clone(shared);
        // A thread a client: its output may block on a slow reader without holding a worker of the runtime.
        let Ok(ours) = stream.try_clone() else { continue };
        if let Ok(thread) = thread("client", move || serve(stream, &shared)) {
            clients.push(Client { thread, stream: ours });
        }
    }
}

impl Server {
    /// Stops intake, cancels commands that run for clients and waits for them.
    pub(crate) fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        let Some(accept) = self.accept.take() else { return };
        self.shutdown.cancel();
        // Wakes the accept loop, which then sees the shutdown.
        let woken = short_name(&self.socket).and_then(|(path, _handle)| UnixStream::connect(path));
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.addresses);
        if woken.is_ok() {
            let _ = accept.join();
        }
        let clients = std::mem::take(&mut *self.clients.lock());
        let end = Instant::now() + CLIENT_PATIENCE;
        while Instant::now() < end && clients.iter().any(|client| !client.thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        for client in clients {
            // A client that does not read would hold its command's output, and with it the data folder, for ever.
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
            let _ = client.thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(stream: UnixStream, shared: &Arc<Shared>) {
    let Ok(reading) = stream.try_clone() else { return };
    // A client that sends nothing must not hold a thread for ever.
    let _ = reading.set_read_timeout(Some(Duration::from_secs(10)));
    let mut reader = BufReader::new(reading);
    let mut line = Vec::new();
    let limit = REQUEST_BYTES_MAX as u64;
    let is_whole = Read::by_ref(&mut reader).take(limit).read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n");
    if !is_whole {
        // A client that went away needs no answer; one whose request is too long does.
        if line.len() >= REQUEST_BYTES_MAX {
            refuse(stream, b"error: the command and its input are too long for `lode up`\n  fix:   split the statement, or stop `lode up` first\n");
        }
        return;
    }
    let _ = reader.get_ref().set_read_timeout(None);
    let Ok(closing) = stream.try_clone() else { return };
    let stream = Arc::new(Mutex::new(stream));
    let code = match serde_json::from_slice::<Request>(&line) {
        // A panic has told its message to the log of `lode up`; the client gets the code.
        Ok(request) => {
            let run = std::panic::AssertUnwindSafe(|| run_request(request, reader, &stream, shared));
            std::panic::catch_unwind(run).unwrap_or_else(|_| {
                let text = b"error: a bug in Lode ended this command\n  fix:   please report what `lode up` printed\n";
                let _ = send_frame(&mut stream.lock(), FrameKind::Err, text);
                ErrorKind::Internal.exit_code()
            })
        }
        Err(_) => {
            let text = b"error: `lode up` does not understand this command\n  fix:   start `lode up` again with this version of lode\n";
            let _ = send_frame(&mut stream.lock(), FrameKind::Err, text);
            ErrorKind::Usage.exit_code()
        }
    };
    let _ = send_frame(&mut stream.lock(), FrameKind::Exit, &[code]);
    // Ends the reading thread too.
    let _ = closing.shutdown(std::net::Shutdown::Both);
}

fn refuse(mut stream: UnixStream, text: &[u8]) {
    let _ = send_frame(&mut stream, FrameKind::Err, text);
    let _ = send_frame(&mut stream, FrameKind::Exit, &[ErrorKind::Usage.exit_code()]);
}

fn run_request(
    request: Request,
    reader: BufReader<UnixStream>,
    stream: &Arc<Mutex<UnixStream>>,
    shared: &Arc<Shared>,
) -> u8 {
    let writer = |kind| Box::new(FrameWriter::new(Arc::clone(stream), kind));
    let parsed = Cli::try_parse_from(std::iter::once("lode".to_owned()).chain(request.argv.iter().cloned()));
    let is_quiet = parsed.as_ref().is_ok_and(|cli| cli.global.quiet);
    let out = Output::new(writer(FrameKind::Out), writer(FrameKind::Err), request.terminal, is_quiet);
    let interrupt = shared.shutdown.child_token();
    listen(reader, out.clone(), interrupt.clone());
    let result = prepare(request, parsed, shared, &interrupt).and_then(|(cli, app)| {
        // From here on the command may have an effect: the client must not start it again by itself if we go away.
        let _ = send_frame(&mut stream.lock(), FrameKind::Err, b"");
        shared.runtime.block_on(crate::commands::run_to_end(&cli.command, &app, &mut out.clone()))
    });
    let result = match result {
        Err(_) if shared.shutdown.is_cancelled() => {
            Err(Problem::new(ErrorKind::Unavailable, "`lode up` is ending").fix("run the command again"))
        }
        result => result,
    };
    crate::commands::report(result, &out)
}

fn prepare(
    request: Request,
    parsed: Result<Cli, clap::Error>,
    shared: &Shared,
    interrupt: &CancellationToken,
) -> Result<(Cli, App), Problem> {
    let ours = env!("CARGO_PKG_VERSION");
    if request.version != ours {
        let what = format!("`lode up` is of version {ours}, this command of version {}", request.version);
        return Err(Problem::new(ErrorKind::Unavailable, what).fix("start `lode up` again with the new binary"));
    }
    let cli = parsed.map_err(|error| Problem::new(ErrorKind::Usage, error.to_string()))?;
    let around = Surroundings { cwd: request.cwd, env: request.env, project_dir: cli.global.project_dir.clone() };
    let settings = Settings::load(&around)?;
    if settings.data_dir != shared.data_dir || settings.lake != shared.lake {
        return Err(Problem::new(ErrorKind::Config, "the lake of this project changed since `lode up` was started")
            .at(Place::of(settings.lake.location.to_string()))
            .fix("start `lode up` again"));
    }
    let app = App::new(around, settings, cli.global.clone(), interrupt.clone());
    Ok((cli, app.in_house(Arc::clone(&shared.house), request.piped_in)))
}

/// Hears the client's messages; its end cancels the command.
fn listen(mut reader: BufReader<UnixStream>, out: Output, interrupt: CancellationToken) {
    let work = move || {
        let mut line = String::new();
        while Read::by_ref(&mut reader).take(1 << 10).read_line(&mut line).is_ok_and(|count| count > 0) {
            match serde_json::from_str(&line) {
                Ok(Message::Resize(width, height)) => out.resize(width, height),
                Ok(Message::Interrupt) | Err(_) => break,
            }
            line.clear();
        }
        interrupt.cancel();
    };
    // Without the thread the command runs on, but cannot be cancelled.
    let _ = thread("client-messages", work);
}
