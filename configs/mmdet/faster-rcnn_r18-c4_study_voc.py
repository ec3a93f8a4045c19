# This config lives in studies/photographs now. The name here is kept for those who use it.
_base_ = '../../studies/photographs/configs/mmdet/faster-rcnn_r18-c4_study_voc.py'
