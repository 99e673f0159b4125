#include "tests/support/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace pare::testing {
namespace {

// Between fork and exec: nothing here may allocate or throw.
[[noreturn]] void become(char* const* arguments, char* const* environment, const char* out_path,
                         const char* err_path, const RunOptions& options) {
  const int out = open(out_path, O_WRONLY | O_CREAT, 0600);
  const int err = open(err_path, O_WRONLY | O_CREAT, 0600);
  const int in = open("/dev/null", O_RDONLY);
  if (out < 0 || err < 0 || in < 0) _exit(126);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  for (const int descriptor : {in, out, err}) {
    if (descriptor > STDERR_FILENO) close(descriptor);
  }
  if (options.close_stdout) close(STDOUT_FILENO);
  if (options.file_size_limit >= 0) {
    const auto bytes = static_cast<rlim_t>(options.file_size_limit);
    const rlimit limit{bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  execve(arguments[0], arguments, environment);
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "pare-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot create " + name);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Program::Program(const std::string& program, const std::vector<std::string>& arguments,
                 const RunOptions& options) {
  std::vector<std::string> argument_strings = {program};
  argument_strings.insert(argument_strings.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment_strings;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!options.environment.contains(text.substr(0, text.find('=')))) {
      environment_strings.push_back(text);
    }
  }
  for (const auto& [name, value] : options.environment) {
    environment_strings.push_back(name + "=" + value);
  }
  const auto argument_pointers = pointers(argument_strings);
  const auto environment_pointers = pointers(environment_strings);
  const std::string out = options.stdout_path.empty() ? streams_ / "out" : options.stdout_path;
  const std::string err = streams_ / "err";
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ == 0) {
    become(argument_pointers.data(), environment_pointers.data(), out.c_str(), err.c_str(),
           options);
  }
}

Program::~Program() {
  if (!running()) return;
  send(SIGKILL);
  wait();
}

void Program::send(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

bool Program::running() {
  if (pid_ > 0 && waitpid(pid_, &raw_status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

std::string Program::out() const { return read_file(streams_ / "out"); }
std::string Program::err() const { return read_file(streams_ / "err"); }

Finished Program::wait() {
  if (pid_ > 0) waitpid(pid_, &raw_status_, 0);
  pid_ = -1;
  Finished result;
  result.status = WIFSIGNALED(raw_status_) ? 128 + WTERMSIG(raw_status_) : WEXITSTATUS(raw_status_);
  result.out = out();
  result.err = err();
  return result;
}

Finished run_program(const std::string& program, const std::vector<std::string>& arguments,
                     const RunOptions& options) {
  return Program(program, arguments, options).wait();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void edit_file(const std::string& path, const std::string& from, const std::string& to) {
  std::string content = read_file(path);
  const size_t place = content.find(from);
  if (place == std::string::npos || content.find(from, place + 1) != std::string::npos) {
    throw std::runtime_error(path + ": expected \"" + from + "\" once");
  }
  write_file(path, content.replace(place, from.size(), to));
}

std::vector<std::string> list_folder(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace pare::testing
