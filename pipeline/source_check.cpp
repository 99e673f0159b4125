#include "pipeline/source_check.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include "formats/output_file.h"
#include "kernels/codec.h"
#include "model/block_parameters.h"
#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPiece = size_t{1} << 20;  // elements converted at a time

void check_finite(const WeightSource& source, const std::string& name) {
  if (source.is_compressed(name)) {
    throw Error(ErrorCode::kInputMalformed,
                source.file_of(name) + ": tensor \"" + name +
                    "\" is compressed already; give the original model");
  }
  // Read piece by piece: where the file is encoded, whole tensors need not be decoded at once.
  const DType dtype = source.dtype(name);
  const size_t element = dtype_size(dtype);
  const auto count = static_cast<size_t>(element_count(source.shape(name)));
  std::vector<std::byte> bytes;
  for (size_t begin = 0; begin < count; begin += kPiece) {
    const size_t size = std::min(kPiece, count - begin);
    bytes.resize(size * element);
    source.read(name, static_cast<int64_t>(begin), bytes);
    const TensorView piece{dtype, {static_cast<int64_t>(size)}, bytes};
    float largest = 0;
    if (dtype == DType::kBf16) {
      largest = absmax_bf16(to_bf16(piece, name));
    } else {
      largest = absmax(to_f32(piece, name));
    }
    if (!std::isfinite(largest)) {
      throw Error(ErrorCode::kNonFinite,
                  source.file_of(name) + ": tensor \"" + name + "\" holds NaN or infinity");
    }
  }
  source.release({name});
}

}  // namespace

void check_source_finite(const ModelGraph& graph, const WeightSource& source, ThreadPool& pool,
                         ProgressMeter& meter) {
  std::vector<std::string> names;
  for (const Parameter& parameter : outer_parameters(graph)) {
    if (source.contains(parameter.name)) names.push_back(parameter.name);
  }
  for_each_block(graph, [&](const BlockGraph& block) {
    for (std::string& name : block_tensors(block)) names.push_back(std::move(name));
  });
  // In batches, so that a cancelled call stops soon.
  const size_t batch = 16 * pool.size();
  for (size_t begin = 0; begin < names.size(); begin += batch) {
    meter.check_cancelled();
    pool.parallel_for(std::min(batch, names.size() - begin),
                      [&](size_t i, size_t) { check_finite(source, names[begin + i]); });
  }
}

void check_output(const QuantizeOptions& options, int64_t planned_bytes) {
  if (options.output.empty()) throw Error(ErrorCode::kUsage, "no output is given");
  std::error_code error;
  if (fs::equivalent(options.output, options.model, error)) {
    throw Error(ErrorCode::kUsage, options.output + ": output and model are the same");
  }
  check_output_place(options.output, !options.output.ends_with(".h5"), options.force);
  fs::path full = fs::absolute(options.output, error).lexically_normal();
  if (!full.has_filename()) full = full.parent_path();  // "out/"
  const fs::path folder = full.parent_path();
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<uintmax_t>(planned_bytes)) {
    throw Error(ErrorCode::kWriteFailed,
                options.output + ": needs about " + std::to_string(planned_bytes) + " bytes, but " +
                    std::to_string(space.available) + " are free in " + folder.string());
  }
}

}  // namespace pare
