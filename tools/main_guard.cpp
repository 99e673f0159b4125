#include "tools/main_guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>

#include "pare/error.h"

namespace pare::tools {
namespace {

// A signal handler can reach nothing but static storage.
std::atomic<bool> stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free);

constexpr int kInterruptedStatus = static_cast<int>(ErrorCode::kInterrupted);

extern "C" void on_signal(int) {
  if (stop_requested.exchange(true)) _exit(kInterruptedStatus);
}

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
}

// A program started with a closed standard stream would get its number for the next file that it
// opens, and then print into that file.
void keep_standard_streams_open() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) == -1 && errno == EBADF) {
      if (open("/dev/null", O_RDWR) != descriptor) _exit(static_cast<int>(ErrorCode::kInternal));
    }
  }
}

// oneDNN prints to stdout when these are set, and stdout carries the result only. It reads them
// when it is first used.
void keep_stdout_for_the_result() {
  unsetenv("DNNL_VERBOSE");
  unsetenv("ONEDNN_VERBOSE");
}

int fail(std::string_view program, bool json_errors, ErrorCode code, std::string_view message) {
  print_error(program, message);
  if (json_errors) {
    const nlohmann::ordered_json object = {{"ok", false},
                                           {"error",
                                            {{"code", static_cast<int>(code)},
                                             {"kind", error_code_name(code)},
                                             {"message", message}}}};
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    try {
      write_stdout(object.dump(2, ' ', false, replace) + "\n");
    } catch (const Error&) {  // The first failure is the one to report.
      return static_cast<int>(code);
    }
  }
  return static_cast<int>(code);
}

}  // namespace

bool interrupted() noexcept { return stop_requested; }

bool use_color() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
         terminal != nullptr && std::string_view(terminal) != "dumb";
}

void print_error(std::string_view program, std::string_view message) {
  const char* label = use_color() ? "\x1b[1;31merror:\x1b[0m" : "error:";
  const std::string line = fmt::format("{}: {} {}\n", program, label, printable(message));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string printable(std::string_view text) {
  std::string result(text);
  for (char& letter : result) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '\n' || letter == '\t') letter = ' ';
    if (byte < 0x20 || byte == 0x7f) letter = letter == ' ' ? ' ' : '?';
  }
  return result;
}

void write_stdout(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE) return;
      throw Error(ErrorCode::kWriteFailed,
                  fmt::format("standard output: cannot write: {}", std::strerror(errno)));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

int run_guarded(std::string_view program, bool json_errors, const std::function<int()>& body) {
  keep_standard_streams_open();
  keep_stdout_for_the_result();
  install_signal_handlers();
  try {
    return body();
  } catch (const Error& error) {
    return fail(program, json_errors, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(program, json_errors, ErrorCode::kLimitExceeded,
                "out of memory; use fewer --threads or a shorter --calib_seqlen or --ctx");
  } catch (const std::exception& error) {
    return fail(program, json_errors, ErrorCode::kInternal,
                fmt::format("internal error, please report it: {}", error.what()));
  } catch (...) {
    return fail(program, json_errors, ErrorCode::kInternal, "internal error, please report it");
  }
}

}  // namespace pare::tools
