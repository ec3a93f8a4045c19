# This config lives in studies/photographs now. The name here is kept for those who use it.
_base_ = '../../studies/photographs/configs/study_mocov2.py'
