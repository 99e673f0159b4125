#include "eval/tasks/task_files.h"

#include <algorithm>
#include <filesystem>

#include "core/sha256.h"
#include "core/text.h"
#include "formats/input_paths.h"
#include "formats/mapped_file.h"
#include "pare/error.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

/// More than a hundred times the largest set; a model's weights by mistake are larger.
constexpr size_t kMostBytes = size_t{1} << 30;

void check_text(std::string_view text, const std::string& path) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) malformed(path, "is empty");
  int64_t line = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t size = utf8_sequence_size(text.substr(at));
    if (size == 0)
      malformed(at_line(path, line), "not UTF-8 text; convert the file to UTF-8 first");
    if (text[at] == '\0') malformed(at_line(path, line), "holds a NUL byte; expected text");
    if (text[at] == '\n') ++line;
    at += size;
  }
}

bool is_task_file(const std::string& name) {
  return name.ends_with(".jsonl") || name.ends_with(".json") || name.ends_with(".txt");
}

// Those that fit `wish` best; more than one only when they fit alike.
std::vector<std::string> best_fits(const std::string& folder, const FileWish& wish,
                                   const std::string& except) {
  std::vector<std::string> fits;
  for (const std::string& name : files_in(folder)) {
    const std::string lower = lower_ascii(name);
    if (is_task_file(lower) && lower.find(wish.hint) != std::string::npos && name != except) {
      fits.push_back(name);
    }
  }
  for (const std::string_view split : wish.splits) {
    std::vector<std::string> of_split;
    std::copy_if(fits.begin(), fits.end(), std::back_inserter(of_split), [&](const auto& name) {
      return lower_ascii(name).find(split) != std::string::npos;
    });
    if (!of_split.empty()) return of_split;
  }
  return {};
}

std::string only_one(const std::vector<std::string>& names, const std::string& folder,
                     const FileWish& wish) {
  if (names.size() > 1) {
    malformed(folder, std::to_string(names.size()) + " files fit the task " +
                          std::string(wish.task) + " alike, among them " + names[0] + " and " +
                          names[1] + "; name the file, or leave only one in the folder");
  }
  return names.empty() ? "" : (fs::path(folder) / names[0]).string();
}

}  // namespace

TaskFiles::TaskFiles(std::string root) : root_(std::move(root)) {
  const PathKind kind = input_kind(root_);
  if (kind == PathKind::kNothing) {
    throw Error(ErrorCode::kInputMissing, root_ + ": no such file or folder");
  }
  is_folder_ = kind == PathKind::kFolder;
}

std::string TaskFiles::find(const FileWish& wish) const {
  if (!is_folder_) return root_;
  std::string found = only_one(best_fits(root_, wish, ""), root_, wish);
  if (!found.empty()) return found;
  std::string expected;
  for (const std::string_view split : wish.splits) {
    expected += (expected.empty() ? "\"" : " or \"") + std::string(split) + "\"";
  }
  throw Error(ErrorCode::kInputMissing,
              root_ + ": no file for the task " + std::string(wish.task) +
                  "; expected a .jsonl, .json or .txt with " + expected + " in its name" +
                  (wish.hint.empty() ? "" : " and \"" + std::string(wish.hint) + "\"") +
                  ", or name the file itself");
}

std::string TaskFiles::find_beside(const std::string& path, const FileWish& wish) {
  const fs::path file(path);
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  return only_one(best_fits(folder, wish, file.filename().string()), folder, wish);
}

std::string TaskFiles::read(const std::string& path) {
  std::string text = read_text_file(path, kMostBytes);
  const fs::path folder = is_folder_ ? fs::path(root_) : fs::path(root_).parent_path();
  digests_[fs::path(path).lexically_proximate(folder).generic_string()] = sha256_hex(text);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  check_text(text, path);
  return text;
}

std::string TaskFiles::sha256() const {
  if (digests_.size() == 1) return digests_.begin()->second;
  std::string lines;
  for (const auto& [name, digest] : digests_) {
    lines.append(digest).append("  ").append(name).append("\n");
  }
  return sha256_hex(lines);
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names = input_folder_names(folder);
  std::erase_if(names, [&](const std::string& name) {
    return name.starts_with('.') ||
           input_kind((fs::path(folder) / name).string()) == PathKind::kFolder;
  });
  return names;
}

std::string at_line(const std::string& path, int64_t line) {
  return path + ":" + std::to_string(line);
}

void malformed(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, where + ": " + what);
}

std::string_view stripped(std::string_view text) {
  // The information separators count too, as in the usual scripting languages.
  const auto is_space = [](char32_t value) {
    return is_white_space(value) || (value >= 0x1c && value <= 0x1f);
  };
  while (!text.empty()) {
    const CodePoint first = code_point_at(text, 0);
    if (!is_space(first.value)) break;
    text.remove_prefix(first.size);
  }
  while (!text.empty()) {
    const CodePoint last = code_point_before(text, text.size());
    if (!is_space(last.value)) break;
    text.remove_suffix(last.size);
  }
  return text;
}

}  // namespace pare
