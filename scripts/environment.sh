# Sourced by ./lode and ./test: where build output lives, and what a build needs on a fresh Debian machine.
# Nothing is installed that is there already; each install says what and why.

LODE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LODE_BUILD_DIR=${LODE_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/lode-build}
# A setting of these scripts: `lode` does not know it and would say so.
export -n LODE_BUILD_DIR
# Outside the clone, so that a new clone reuses it.
export CARGO_TARGET_DIR=$LODE_BUILD_DIR

# Cargo tells our crates of two clones apart by time stamps alone: what another clone made of them is made again.
if [ "$(cat "$CARGO_TARGET_DIR/.clone" 2>/dev/null)" != "$LODE_ROOT" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  rm -rf "$CARGO_TARGET_DIR"/*/.fingerprint/lode* "$CARGO_TARGET_DIR"/*/.fingerprint/xtask*
  printf '%s' "$LODE_ROOT" >"$CARGO_TARGET_DIR/.clone"
fi

say() { printf '%s\n' "$*" >&2; }

# install PACKAGE WHY: with apt, as root or through sudo.
install() {
  local package=$1 why=$2 as_root=()
  if ! command -v apt-get >/dev/null; then
    say "error: $package is missing ($why)"
    say "  fix:   install it with your system's package manager"
    exit 3
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "error: $package is missing ($why), and this user cannot install it"
      say "  fix:   run as root: apt-get install $package"
      exit 3
    fi
    as_root=(sudo)
  fi
  say "installing $package: $why"
  if [ -z "${LODE_APT_UPDATED:-}" ]; then
    "${as_root[@]}" apt-get update -qq >&2 || true
    LODE_APT_UPDATED=1
  fi
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$package" >&2 || {
    say "error: could not install $package ($why)"
    exit 3
  }
}

need_build_tools() {
  if ! command -v cargo >/dev/null; then
    [ -x "$HOME/.cargo/bin/cargo" ] && export PATH=$HOME/.cargo/bin:$PATH
  fi
  if ! command -v cargo >/dev/null; then
    say "error: Rust is missing (it builds Lode)"
    say "  fix:   install Rust 1.95 or newer from https://rustup.rs, then run this again"
    exit 3
  fi
  command -v cc >/dev/null || install gcc "the C compiler for SQLite and zstd"
  [ -e /usr/include/stdlib.h ] || install libc6-dev "the C headers for SQLite and zstd"
}
