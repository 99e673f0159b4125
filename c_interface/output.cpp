#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "c_interface/handles.h"
#include "c_interface/status.h"

struct pare_output {
  pare_output(const std::string& path, const pare::CheckpointTexts& texts, bool force)
      : output(path, texts, force) {}

  pare::CheckpointOutput output;
};

extern "C" {

pare_status pare_output_new(const char* path, const pare_checkpoint* like, int force,
                            pare_output** output) {
  return pare::guarded([&] {
    *pare::require(output, "output") = nullptr;
    const pare::Checkpoint& from = pare::require(like, "like")->checkpoint;
    *output = std::make_unique<pare_output>(pare::require(path, "path"), from.texts(), force != 0)
                  .release();
  });
}

void pare_output_free(pare_output* output) { delete output; }

pare_status pare_output_copy(pare_output* output, const pare_tensor* tensor) {
  return pare::guarded([&] {
    pare::require(tensor, "tensor");
    pare::require(output, "output")->output.copy(*tensor->checkpoint, tensor->name);
  });
}

pare_status pare_output_write(pare_output* output, const char* name, const char* dtype,
                              const int64_t* shape, size_t dimensions, const void* data,
                              size_t size) {
  return pare::guarded([&] {
    pare::CheckpointOutput& written = pare::require(output, "output")->output;
    pare::PlainTensor tensor;
    tensor.dtype = pare::require(dtype, "dtype");
    if (dimensions > 0) {
      const int64_t* sizes = pare::require(shape, "shape");
      tensor.shape.assign(sizes, sizes + dimensions);
    }
    if (size > 0) {
      const auto* bytes = static_cast<const std::byte*>(pare::require(data, "data"));
      tensor.bytes.assign(bytes, bytes + size);
    }
    written.write(pare::require(name, "name"), tensor);
  });
}

pare_status pare_output_finish(pare_output* output) {
  return pare::guarded([&] { pare::require(output, "output")->output.finish(); });
}

}  // extern "C"
