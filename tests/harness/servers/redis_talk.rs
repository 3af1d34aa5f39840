//! What is said to a Redis and what it answers, in its own protocol.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Text(String),
    Number(i64),
    List(Vec<Said>),
    Nothing,
    Error(String),
}

impl Said {
    /// A text, or nothing where it is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            Self::Number(_) | Self::List(_) | Self::Nothing => "",
        }
    }
}

/// What a server carries out.
pub struct Monitor {
    talk: Talk,
    asks: Talk,
}

impl Monitor {
    pub(super) async fn of(port: u16) -> Self {
        let mut talk = Talk::open(port).await.expect("a connection");
        let said = talk.ask(&["MONITOR"]).await.expect("an answer");
        assert_eq!(said, Said::Text("OK".to_owned()));
        Self { talk, asks: Talk::open(port).await.expect("a connection") }
    }

    /// What was asked of the server up to now, and not by its own scripts.
    pub async fn seen(&mut self) -> Vec<String> {
        // All that came before this one is told before it.
        let mark = format!("until-{}", self.talk.marks);
        self.talk.marks += 1;
        self.asks.ask(&["ECHO", &mark]).await.expect("an answer");
        let mut seen = Vec::new();
        loop {
            let line = self.talk.line().await.expect("a line of MONITOR");
            if line.contains(&mark) {
                return seen;
            }
            if !line.contains(" lua] ") {
                seen.push(line);
            }
        }
    }
}

/// One connection, in the protocol of Redis.
pub(super) struct Talk {
    stream: BufReader<TcpStream>,
    marks: usize,
}

impl Talk {
    pub(super) async fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Self { stream: BufReader::new(stream), marks: 0 })
    }

    pub(super) async fn ask(&mut self, words: &[&str]) -> std::io::Result<Said> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(command.as_bytes()).await?;
        self.said().await
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn said(&mut self) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Said>> + Send + '_>> {
        Box::pin(async move {
            let line = self.line().await?;
            let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
            let number = || rest.parse::<i64>().map_err(|_| std::io::Error::from(ErrorKind::InvalidData));
            Ok(match kind {
                "+" => Said::Text(rest.to_owned()),
                "-" => Said::Error(rest.to_owned()),
                ":" => Said::Number(number()?),
                "$" => match usize::try_from(number()?) {
                    Ok(length) => {
                        let mut bytes = vec![0; length + 2];
                        self.stream.read_exact(&mut bytes).await?;
                        bytes.truncate(length);
                        Said::Text(String::from_utf8_lossy(&bytes).into_owned())
                    }
                    Err(_) => Said::Nothing,
                },
                "*" => match usize::try_from(number()?) {
                    Ok(length) => {
                        let mut list = Vec::new();
                        for _ in 0..length {
                            list.push(self.said().await?);
                        }
                        Said::List(list)
                    }
                    Err(_) => Said::Nothing,
                },
                _ => return Err(ErrorKind::InvalidData.into()),
            })
        })
    }
}
