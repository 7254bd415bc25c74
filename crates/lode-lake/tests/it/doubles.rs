//! Stand-ins for buckets: moto and Azurite, started by the test that needs them, and small HTTP servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use lode_core::config::Environment;
use lode_lake::{LakeError, Store, StoreOptions};

/// A server that ends with its test: it reads its standard input to the end.
pub(crate) struct Double {
    child: Child,
    _until: Option<ChildStdin>,
    pub(crate) endpoint: String,
    scheme: &'static str,
    options: StoreOptions,
    /// Of a user who may only read.
    pub(crate) reader: (String, String),
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Double {
    /// A store below `prefix`, in the bucket `lake` that is there from the start.
    pub(crate) async fn open(&self, prefix: &str) -> Store {
        self.try_open(&self.location(prefix), &[]).await.unwrap()
    }

    pub(crate) fn location(&self, prefix: &str) -> String {
        format!("{}://lake/{prefix}", self.scheme)
    }

    /// The answer to a plain request of this path.
    pub(crate) fn get(&self, target: &str) -> String {
        let host = self.endpoint.trim_start_matches("http://");
        let login = "Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request";
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{login}\r\nConnection: close\r\n\r\n");
        let reply = String::from_utf8(forward(host, request.as_bytes())).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        reply
    }

    /// Another location, or with other options.
    pub(crate) async fn try_open(&self, location: &str, options: &[(&str, &str)]) -> Result<Store, LakeError> {
        open(location, self.options.clone(), options).await
    }
}

/// Without the environment of whoever runs the tests.
pub(crate) async fn open(location: &str, mut all: StoreOptions, options: &[(&str, &str)]) -> Result<Store, LakeError> {
    for (key, value) in options {
        all = all.with(key, *value)?;
    }
    Store::open(&location.parse()?, &all, &Environment::default()).await
}

pub(crate) fn s3_options(endpoint: &str) -> StoreOptions {
    let pairs = [
        ("endpoint", endpoint),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("access_key_id", "test"),
        ("secret_access_key", "test"),
    ];
    pairs.into_iter().fold(StoreOptions::default(), |options, (key, value)| options.with(key, value).unwrap())
}

/// The program that a variable names, or a word on why the test does nothing.
fn named_by(variable: &str, what: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("skipped: {variable} does not name {what}");
    }
    found
}

const MOTO: &str = r#"
import json, sys
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%d" % server.get_host_and_port()
login = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
boto3.client("s3", **login).create_bucket(Bucket="lake")
iam = boto3.client("iam", **login)
iam.create_user(UserName="reader")
may = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
key = iam.create_access_key(UserName="reader")["AccessKey"]
print(endpoint, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
sys.stdin.read()
"#;

/// S3 by moto. `None` when `LODE_TEST_PYTHON` does not name a Python that has it.
pub(crate) fn moto() -> Option<Double> {
    let python = named_by("LODE_TEST_PYTHON", "a Python with moto[s3,server] and boto3")?;
    let mut child = Command::new(python)
        .args(["-c", MOTO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = child.stdin.take();
    let line = first_line(&mut child, |_| true);
    let [endpoint, id, secret] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("moto did not start: {line}")
    };
    Some(Double {
        options: s3_options(endpoint),
        endpoint: endpoint.to_owned(),
        scheme: "s3",
        reader: (id.to_owned(), secret.to_owned()),
        child,
        _until: until,
    })
}

/// From here on moto asks who it is.
pub(crate) fn begin_to_check_rights(moto: &Double) {
    let host = moto.endpoint.trim_start_matches("http://");
    let request = format!(
        "POST /moto-api/reset-auth HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0"
    );
    let reply = String::from_utf8(forward(host, request.as_bytes())).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

/// The key that every Azurite has, from its documentation.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const MAKE_CONTAINER: &str = r#"
const [endpoint, key] = process.argv.slice(1);
const date = new Date().toUTCString(), version = "2021-08-06";
const resource = "/devstoreaccount1/devstoreaccount1/lake\nrestype:container";
const text = ["PUT", ...Array(11).fill(""), `x-ms-date:${date}`, `x-ms-version:${version}`, resource].join("\n");
const signed = require("crypto").createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
const headers = { "x-ms-date": date, "x-ms-version": version, Authorization: `SharedKey devstoreaccount1:${signed}` };
fetch(`${endpoint}/lake?restype=container`, { method: "PUT", headers })
  .then(async (reply) => { console.log(reply.status, await reply.text()); });
"#;

/// Azure by Azurite. `None` when `LODE_TEST_AZURITE` does not name `azurite-blob`.
pub(crate) fn azurite() -> Option<Double> {
    let program = named_by("LODE_TEST_AZURITE", "azurite-blob")?;
    let mut child = Command::new(program)
        .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = first_line(&mut child, |line| line.contains("successfully listen"));
    let endpoint = format!("{}/devstoreaccount1", line.split_whitespace().last().unwrap());
    let made = Command::new("node").args(["-e", MAKE_CONTAINER, &endpoint, AZURITE_KEY]).output().unwrap();
    let answer = String::from_utf8_lossy(&made.stdout);
    assert!(answer.starts_with("201"), "{answer}{}", String::from_utf8_lossy(&made.stderr));
    let pairs = [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("account", "devstoreaccount1"),
        ("account_key", AZURITE_KEY),
    ];
    let options =
        pairs.into_iter().fold(StoreOptions::default(), |options, (key, value)| options.with(key, value).unwrap());
    Some(Double { child, _until: None, endpoint, scheme: "az", options, reader: Default::default() })
}

/// The first line of its output that fits; the rest is read and dropped, or the double would wait for us.
fn first_line(child: &mut Child, fits: impl Fn(&str) -> bool) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).find(|line| fits(line)).unwrap_or_default();
    std::thread::spawn(move || lines.for_each(drop));
    found
}

/// A request as it came in: head with its empty line, body.
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn is(&self, method: &str) -> bool {
        self.head.starts_with(&format!("{method} "))
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Sends it on, without the headers whose name is given. The answer closes the connection.
    pub(crate) fn forward(&self, endpoint: &str, without: &str) -> Vec<u8> {
        let kept = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            name != without && name != "connection"
        };
        let lines: Vec<&str> = self.head.trim_end().split("\r\n").filter(kept).collect();
        let mut request = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).into_bytes();
        request.extend_from_slice(&self.body);
        forward(endpoint.trim_start_matches("http://"), &request)
    }
}

fn forward(host: &str, request: &[u8]) -> Vec<u8> {
    let mut upstream = TcpStream::connect(host).unwrap();
    upstream.write_all(request).unwrap();
    let mut reply = Vec::new();
    upstream.read_to_end(&mut reply).unwrap();
    reply
}

pub(crate) fn reply(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// An HTTP server on a port of its own, one request a connection; lives as long as the test's process. Gives its endpoint.
pub(crate) fn serve(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || serve_one(client, answer.as_ref()));
        }
    });
    endpoint
}

fn serve_one(mut client: TcpStream, answer: &(dyn Fn(&Request) -> Vec<u8> + Send + Sync)) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_ascii_lowercase();
    let length = length.split("content-length:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    client.write_all(&answer(&Request { head, body })).ok()
}
