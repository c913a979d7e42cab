"""The compiled core: loops over time, tiles and threads. Private; `fastrnn.ops` is its public face.

_dispatch   links src_c and owns the table of kernels in use
_threads    the only contact with OpenMP
_memory     aligned memory that is used again
_gemm       products over packed operands, dense layers
_recurrent  weights in panel layout, one call of a time loop; _recurrent_forward and _recurrent_backward are those loops,
            _recurrent_part some sequences of a batch as a loop of their own
_rnn _lstm _gru   what tells one cell from another
_plan       which rows a time step reads and writes; _layers calls all cells of a layer
_stream     step-by-step use
_windows    how kernels slide over maps, and boxes of outputs; _band copies what a box reads
_conv       convolution by products over bands; _conv_pack its weights in panels, _conv_weight the gradients of its parameters,
            _weight_columns those of many weights from few places; _conv_stretches and _tap_planes a transpose to few maps
_plane_conv convolution with the pixels in the lanes, over a _plane_band; _winograd by Winograd's algorithm
_places     what one tap with a stride reads, taken out of maps
_depthwise  convolution of each channel by itself: of padded maps, see _map_copy, or of _depthwise_pixels
_pool _time_pool _unpool; _pooled is what layers call of them, as they do _calls of prepared convolutions and dense layers
_norm       normalisation of rows and of maps; _norm_columns of maps with the channels last
_activation elementwise functions, dropout's masks, softmax; _attention queries against the steps of sequences
_embedding _losses _ctc _optim
"""
