// The edge between a program and the shell: signals, exit statuses, error output, stdout.
//
//   int main(int argc, char** argv) {
//     return pare::tools::run_guarded("quantize", json, [&] { ... return 0; });
//   }
//
// Call run_guarded once, from main. interrupted() may be called from any thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace pare::tools {

/// Runs `body` and returns the exit status: what `body` returns, or that of what it threw
/// (pare::Error: its code; std::bad_alloc: 6; anything else: 1). A failure is one line on stderr
/// and, with `json_errors`, one object {"ok": false, "error": …} on stdout.
///
/// While it runs, the first SIGINT or SIGTERM only makes interrupted() true and the second ends
/// the process with status 130; a reader that closes stdout early does not kill the program; and
/// exceeding the file size limit is a write error like a full disk, not a signal. The variables of
/// the environment that make libraries print on stdout are removed.
int run_guarded(std::string_view program, bool json_errors, const std::function<int()>& body);

/// Prints "PROGRAM: error: MESSAGE" as one line on stderr.
void print_error(std::string_view program, std::string_view message);

/// Whether a signal asked the program to stop.
bool interrupted() noexcept;

/// Writes all of `text` to stdout. A closed pipe is no error: whoever read it had enough. Throws
/// Error(kWriteFailed) otherwise.
void write_stdout(std::string_view text);

/// One line of `text` for stderr: control characters, which may come from names in hostile files,
/// are replaced.
std::string printable(std::string_view text);

/// Whether stderr should be coloured: a terminal that is not dumb, and NO_COLOR is unset or empty.
bool use_color();

}  // namespace pare::tools
