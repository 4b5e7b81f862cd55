# Sourced by the scripts beside it: strict mode, the repository as working directory, and the few
# functions they share. Not a command of its own.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# How many compilers at once: one per core, but only as many as have 1.5 GB of memory each.
jobs() {
  local cores memory_kb fit
  if [ -n "${SPILLWAY_JOBS:-}" ]; then
    echo "$SPILLWAY_JOBS"
    return
  fi
  cores=$(nproc)
  memory_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  fit=$((${memory_kb:-0} / 1500000))
  [ "$fit" -ge 1 ] || fit=1
  echo $((cores < fit ? cores : fit))
}

# configure PRESET [cmake arguments]: into build/PRESET, anew when the repository has been moved.
configure() {
  local preset=$1 cache="build/$1/CMakeCache.txt" fresh=()
  shift
  if [ -f "$cache" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache"; then
    fresh=(--fresh)
  fi
  local log
  if ! log=$(cmake --preset "$preset" "${fresh[@]}" "$@" 2>&1); then
    printf '%s\n' "$log" >&2
    fail "cmake could not configure build/$preset (see above)"
  fi
}

# build PRESET [targets]: says nothing when there is nothing to build.
build() {
  local preset=$1 targets=()
  shift
  [ $# -eq 0 ] || targets=(--target "$@")
  cmake --build "build/$preset" --parallel "$(jobs)" "${targets[@]}" 2>&1 |
    { grep --line-buffered -v -e 'no work to do' -e 'Re-checking globbed directories' >&2 || true; } ||
    fail "the build failed (see above)"
}

# Our C++ files, one per line.
sources() {
  find sse effects processor examples tests migrations \( -name node_modules -o -name build \) -prune \
    -o -type f \( -name '*.cpp' -o -name '*.hpp' \) -print | LC_ALL=C sort
}
