#include "model/sequence_state.h"

#include <algorithm>

#include "pare/error.h"

namespace pare {
namespace {

bool keeps_state(const Op& op) {
  return op.kind == OpKind::kConvolution || op.kind == OpKind::kSelectiveScan ||
         op.kind == OpKind::kStateSpaceScan;
}

// May be 0: of a convolution over one token.
int64_t state_size(const BlockGraph& block, const Op& op) {
  switch (op.kind) {
    case OpKind::kConvolution:
      return (block.convolutions[static_cast<size_t>(op.detail)].kernel - 1) *
             block.width(op.output);
    case OpKind::kSelectiveScan:
    case OpKind::kStateSpaceScan:
      return block.scans[static_cast<size_t>(op.detail)].state_size * block.width(op.output);
    default:
      return 0;
  }
}

}  // namespace

SequenceState::SequenceState(const BlockGraph& block, int64_t length, int64_t memory_length,
                             Precision precision) {
  for (const AttentionSpec& attention : block.attentions) {
    caches_.emplace_back(attention.shape, attention.memory ? memory_length : length, precision);
  }
  for (size_t i = 0; i < block.ops.size(); ++i) {
    if (!keeps_state(block.ops[i])) continue;
    scans_[i].now.resize(static_cast<size_t>(state_size(block, block.ops[i])));
  }
}

int64_t SequenceState::memory_bytes(const BlockGraph& block, int64_t length, int64_t memory_length,
                                    Precision precision) {
  int64_t bytes = 0;
  for (const AttentionSpec& attention : block.attentions) {
    const AttentionShape& shape = attention.shape;
    bytes += (attention.memory ? memory_length : length) * shape.kv_heads *
             (shape.head_dim + shape.value_width()) * (precision == Precision::kBf16 ? 2 : 4);
  }
  for (const Op& op : block.ops) bytes += 8 * state_size(block, op);
  return bytes;
}

void SequenceState::clear() {
  for (KeyValueCache& cache : caches_) cache.clear();
  for (auto& [op, scan] : scans_) {
    scan.position = 0;
    std::fill(scan.now.begin(), scan.now.end(), 0.0F);
    scan.kept.clear();
  }
}

void SequenceState::copy_from(const SequenceState& other) {
  for (size_t i = 0; i < caches_.size(); ++i) caches_[i].copy_from(other.caches_[i]);
  scans_ = other.scans_;
}

std::span<float> SequenceState::scan_state(size_t op, int64_t position) {
  ScanState& scan = scans_.at(op);
  if (position == scan.position) return scan.now;
  while (!scan.kept.empty() && scan.kept.back().first > position) scan.kept.pop_back();
  if (position == 0) {
    std::fill(scan.now.begin(), scan.now.end(), 0.0F);
  } else if (!scan.kept.empty() && scan.kept.back().first == position) {
    scan.now = scan.kept.back().second;
  } else {
    throw Error(ErrorCode::kInternal,
                "no state of the scan was kept at position " + std::to_string(position));
  }
  scan.position = position;
  return scan.now;
}

void SequenceState::advance_scan(size_t op, int64_t rows, bool keep) {
  ScanState& scan = scans_.at(op);
  scan.position += rows;
  if (!keep) return;
  while (!scan.kept.empty() && scan.kept.back().first >= scan.position) scan.kept.pop_back();
  scan.kept.emplace_back(scan.position, scan.now);
}

}  // namespace pare
