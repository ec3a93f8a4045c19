# This config lives in studies/photographs now. The name here is kept for those who use it.
_base_ = '../../studies/photographs/configs/_base_/study_variation.py'
