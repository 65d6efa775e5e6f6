//! `leveret serve`: the broker on its own.
//!
//! Reads arguments and environment, says on stderr what it does, and stops when it is told to.

use std::{
    env,
    io::IsTerminal as _,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use leveret::{Broker, BrokerBuilder, Definitions, memory};
use tracing_subscriber::EnvFilter;

use super::{Failure, data_folder, open_files, stop::Stop};

const PORT: u16 = 5672;
const PASSWORD_VARIABLE: &str = "LEVERET_PASSWORD";

/// Run the broker
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// Where to listen: an address, a port, or both; may be given several times
    #[arg(long, value_name = "ADDRESS[:PORT]", default_value = "127.0.0.1:5672", value_parser = parse_listen)]
    listen: Vec<Listen>,

    /// Add a user who may log in from other hosts; the password comes from --password-file or
    /// LEVERET_PASSWORD
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// A file whose first line is the password of --user
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// A file of definitions as RabbitMQ exports them: users, virtual hosts, permissions, policies,
    /// exchanges, queues, bindings. There is no default user and virtual host then
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,

    /// A folder for this broker alone, where durable queues with their persistent messages, durable
    /// exchanges, bindings, users, virtual hosts, permissions and policies survive a restart
    /// [default: $STATE_DIRECTORY, $XDG_STATE_HOME/leveret or ~/.local/state/leveret]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Leave it to the operating system when what is written to the data folder reaches the disk: a power
    /// cut may take what was confirmed
    #[arg(long)]
    no_sync: bool,

    /// Do not read publishers while the data folder's disk has less room than this
    #[arg(long, value_name = "SIZE", default_value = "50MB")]
    disk_free_limit: ByteSize,

    /// Do not read publishers while messages take more memory than this: a size, or a share of the
    /// machine's memory
    #[arg(long, value_name = "SIZE|SHARE", default_value = "0.4", value_parser = parse_watermark)]
    memory_watermark: u64,

    /// Refuse larger messages (at most 128 MiB)
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    max_message_size: ByteSize,

    /// Seconds between signs of life that are suggested to clients; 0 is none
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    heartbeat: u16,

    /// Channels that a connection may have open at a time
    #[arg(long, value_name = "COUNT", default_value_t = 2047, value_parser = clap::value_parser!(u16).range(1..))]
    channel_max: u16,

    /// Close a channel whose consumers keep a delivery this long without settling it; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    consumer_timeout: u32,
    /// Send copies of all messages of this virtual host to its exchange amq.rabbitmq.trace; may be
    /// given several times
    #[arg(long, value_name = "VHOST")]
    trace: Vec<String>,
    /// What to log: error, warn, info, debug, or a filter by module
    #[arg(long, env = "LEVERET_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

/// The addresses that one `--listen` stands for; a host name may have several.
#[derive(Clone, Debug)]
struct Listen(Vec<SocketAddr>);

fn parse_listen(typed: &str) -> Result<Listen, String> {
    if let Ok(port) = typed.parse::<u16>() {
        return Ok(Listen(vec![(IpAddr::from([127, 0, 0, 1]), port).into()]));
    }
    if let Ok(address) = typed.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(Listen(vec![(address, PORT).into()]));
    }
    let with_port = if typed.contains(':') { typed.to_owned() } else { format!("{typed}:{PORT}") };
    let addresses: Vec<_> = with_port.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("no address of that name".to_owned()) } else { Ok(Listen(addresses)) }
}

fn parse_watermark(typed: &str) -> Result<u64, String> {
    match typed.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => {
            let available =
                memory::available_octets().ok_or("the machine does not say how much memory it has")?;
            #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
            Ok((available as f64 * share) as u64)
        }
        _ => match typed.parse::<ByteSize>()?.as_u64() {
            0 => Err("must be more than nothing".to_owned()),
            octets => Ok(octets),
        },
    }
}

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    start_log(&args.log)?;
    raise_open_files();
    let builder = builder(args)?;
    super::quiet_runtime()?.block_on(async {
        let mut stop = Stop::listen(true)?;
        let broker = builder.start().await.map_err(Failure::Listen)?;
        announce(&broker, args);
        for vhost in &args.trace {
            if !broker.set_tracing(vhost, true) {
                return Err(Failure::Usage(format!("--trace {vhost}: there is no such virtual host")));
            }
            tracing::info!("copies of all messages in virtual host {vhost} go to amq.rabbitmq.trace");
        }
        tokio::select! {
            () = stop.requested() => {}
            () = super::give_back_when_quiet(|| broker.let_go_of_buffers()) => {}
        }
        tracing::info!("stopping: connections are closed");
        tokio::select! {
            () = broker.shutdown() => {}
            // Whoever asks twice does not want to wait.
            () = stop.requested() => {}
        }
        Ok(())
    })
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
    let colour =
        std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        // It would be said on stderr that stderr is gone, which is an end by a panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}

fn announce(broker: &Broker, args: &ServeArgs) {
    for address in broker.addresses() {
        tracing::info!("leveret {} listens on {address}", env!("CARGO_PKG_VERSION"));
    }
    match broker.data_folder() {
        Some(folder) => tell_folder(folder, args),
        None => tracing::info!("messages and definitions are kept in memory only: a restart loses them"),
    }
    let watermark = ByteSize::b(args.memory_watermark).display().iec();
    tracing::info!("publishers wait while messages take more than {watermark} of memory");
}

fn tell_folder(folder: &Path, args: &ServeArgs) {
    tracing::info!("the data folder is {}", folder.display());
    tracing::info!("publishers wait while its disk has less than {} of room", args.disk_free_limit);
    if args.no_sync {
        tracing::warn!(
            "--no-sync: a confirm does not say that a message is on stable storage; a power cut or a crash of \
             the operating system may take what was confirmed and more, and only a crash of the broker does not"
        );
    }
}

fn builder(args: &ServeArgs) -> Result<BrokerBuilder, Failure> {
    let mut builder = Broker::builder()
        .memory_watermark_octets(args.memory_watermark)
        .message_octets_max(args.max_message_size.as_u64())
        .heartbeat_seconds(args.heartbeat)
        .channel_max(args.channel_max)
        .disk_free_limit_octets(args.disk_free_limit.as_u64())
        .data(data_folder(args)?);
    if args.no_sync {
        builder = builder.no_sync();
    }
    if args.consumer_timeout > 0 {
        builder = builder.consumer_timeout(Duration::from_secs(args.consumer_timeout.into()));
    }
    for listen in &args.listen {
        builder = listen.0.iter().fold(builder, |builder, address| builder.listen(*address));
    }
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let (user, password) = (variable("RABBITMQ_DEFAULT_USER"), variable("RABBITMQ_DEFAULT_PASS"));
    if let Some(path) = &args.definitions {
        let definitions = Definitions::read(path).map_err(Failure::Definitions)?;
        builder = builder.definitions(definitions);
        if user.is_some() || password.is_some() {
            tracing::warn!(
                "RABBITMQ_DEFAULT_USER changes nothing: with definitions there is no default user"
            );
        }
    }
    if user.is_some() || password.is_some() {
        let guest = || "guest".to_owned();
        builder = builder.default_user(&user.unwrap_or_else(guest), &password.unwrap_or_else(guest));
    }
    if let Some(vhost) = variable("RABBITMQ_DEFAULT_VHOST") {
        builder = builder.virtual_host(&vhost);
    }
    match &args.user {
        Some(name) => Ok(builder.user(name, &password_of(args)?)),
        None => Ok(builder),
    }
}

fn data_folder(args: &ServeArgs) -> Result<PathBuf, Failure> {
    match &args.data {
        Some(folder) => Ok(folder.clone()),
        None => data_folder::default_folder().map_err(Failure::Usage),
    }
}

fn password_of(args: &ServeArgs) -> Result<String, Failure> {
    let password = match &args.password_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("--password-file {}: {error}", path.display())))?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => env::var(PASSWORD_VARIABLE).unwrap_or_default(),
    };
    if password.is_empty() {
        let hint = format!("--user needs a password: give --password-file FILE or set {PASSWORD_VARIABLE}");
        return Err(Failure::Usage(hint));
    }
    Ok(password)
}

/// Says how many connections there can be.
fn raise_open_files() {
    match open_files::raise_limit() {
        Some(files) => tracing::info!("up to {files} files and connections may be open"),
        None => tracing::info!("files and connections may be open without a limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        let check = |typed: &str, wanted: &str| {
            assert_eq!(parse_listen(typed).expect(typed).0, [wanted.parse().expect(wanted)], "{typed}");
        };
        check("5673", "127.0.0.1:5673");
        check("0.0.0.0", "0.0.0.0:5672");
        check("127.0.0.1:0", "127.0.0.1:0");
        check("::1", "[::1]:5672");
        check("[::1]", "[::1]:5672");
        check("[::]:5673", "[::]:5673");
        assert!(parse_listen("127.0.0.1:70000").is_err());
    }

    #[test]
    fn a_watermark_is_a_share_or_a_size() {
        assert_eq!(parse_watermark("2GiB"), Ok(2 << 30));
        let half = parse_watermark("0.5").expect("a share");
        assert!(half > 0 && half < memory::available_octets().expect("this machine has memory"));
        for typed in ["0", "-1", "much"] {
            assert!(parse_watermark(typed).is_err(), "{typed}");
        }
    }
}
