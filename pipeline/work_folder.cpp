#include "pipeline/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "formats/checkpoint_reader.h"
#include "pare/error.h"
#include "pipeline/report_json.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

// A file under its own name is complete.
void write_text(const std::string& path, const std::string& text) {
  OutputFile file(path, /*force=*/true);
  file.append(std::as_bytes(std::span(text)));
  file.commit();
}

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace

void check_work_folder(const std::string& path, const std::string& job_json, bool resume) {
  const std::string job_path = path + "/job.json";
  const std::optional<std::string> earlier = read_text(job_path);
  if (!resume) {
    if (!earlier) return;
    throw Error(ErrorCode::kWriteFailed,
                job_path +
                    ": the folder holds a job already; add --resume to go on, or use "
                    "another folder");
  }
  if (!earlier) {
    throw Error(ErrorCode::kInputMissing,
                job_path + ": not found, there is nothing to resume; run without --resume");
  }
  if (*earlier != job_json) {
    throw Error(ErrorCode::kUsage,
                job_path +
                    ": describes another job (model, options, calibration or pare's version "
                    "differ); resume with the options of the first run, or use another folder");
  }
}

WorkFolder::WorkFolder(const std::string& path, const std::string& job_json, bool resume)
    : path_(path), job_json_(job_json) {
  check_work_folder(path, job_json, resume);
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error(ErrorCode::kWriteFailed, path + ": " + error.message());
  lock_ = Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock_.get() < 0 || ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      throw Error(ErrorCode::kWriteFailed,
                  path + ": another process works in this folder now; wait for it or use another");
    }
    fail_write(path, "locking", errno);
  }
  if (!resume) write_text(path + "/job.json", job_json);
}

std::string WorkFolder::layer_path(size_t index, const char* ending) const {
  std::string number = std::to_string(index);
  number.insert(0, number.size() < 5 ? 5 - number.size() : 0, '0');
  return path_ + "/layer-" + number + ending;
}

bool WorkFolder::contains(size_t index) const {
  return std::filesystem::exists(layer_path(index, ".json"));
}

std::optional<CompressedBlock> WorkFolder::load(const BlockGraph& block, size_t index) const {
  // The report is written last, so it vouches for the tensors.
  const std::optional<std::string> report = read_text(layer_path(index, ".json"));
  if (!report) return std::nullopt;
  // A disk that filled up or lost power may have left other bytes than were written.
  verify_hashes(layer_path(index, ".h5"));
  const std::unique_ptr<WeightSource> source = open_weight_source(layer_path(index, ".h5"));
  if (source->recipe_json() != job_json_) {
    throw Error(ErrorCode::kInputMalformed,
                layer_path(index, ".h5") +
                    ": is of another job; empty the work folder, or use another one");
  }
  CompressedBlock tensors = read_block(block, *source);
  try {
    const nlohmann::json json = nlohmann::json::parse(*report);
    tensors.layers = layers_from_json(json.at("layers"));
    json.at("warnings").get_to(tensors.warnings);
    if (json.contains("caches")) tensors.caches = caches_from_json(json.at("caches"));
    if (json.contains("expert")) tensors.expert = expert_from_json(json.at("expert"));
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::kInputMalformed, layer_path(index, ".json") + ": is damaged");
  }
  return tensors;
}

void WorkFolder::save(const BlockGraph& block, size_t index, const CompressedBlock& tensors) const {
  CheckpointHeader header;
  header.config_json = "{}";
  header.recipe_json = job_json_;
  CheckpointWriter writer(layer_path(index, ".h5"), header, /*force=*/true);
  write_block(block, tensors, writer);
  writer.finish();
  nlohmann::json json = {{"layers", layers_to_json(tensors.layers)},
                         {"warnings", tensors.warnings}};
  if (!tensors.caches.empty()) json["caches"] = caches_to_json(tensors.caches);
  if (tensors.expert) json["expert"] = expert_to_json(*tensors.expert);
  write_text(layer_path(index, ".json"), json.dump());
}

void WorkFolder::remove(size_t blocks) const {
  std::error_code ignored;
  for (size_t i = 0; i < blocks; ++i) {
    fs::remove(layer_path(i, ".h5"), ignored);
    fs::remove(layer_path(i, ".json"), ignored);
  }
  fs::remove(path_ + "/job.json", ignored);
  fs::remove(path_, ignored);  // only when nothing else is in it
}

}  // namespace pare
