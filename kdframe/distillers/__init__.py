import kdframe.distillers.ab  # 2019, which neurons are active
import kdframe.distillers.abkd  # 2025, soft labels by a divergence of two exponents
import kdframe.distillers.afd  # 2021, where the networks look, by attention
import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.byot  # 2019, early classifiers learn from the last; no teacher
import kdframe.distillers.catkd  # 2023, where the networks see each class
import kdframe.distillers.cc  # 2019, kernels of the images
import kdframe.distillers.crd  # 2020, which image it is, against a bank of all
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.ctkd  # 2023, soft labels at a temperature that is learned
import kdframe.distillers.cwd  # 2021, where each channel is active
import kdframe.distillers.dist  # 2022, probabilities up to a shift and a scale
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.dml  # 2018, two networks that learn from each other
import kdframe.distillers.embedding_cosine  # the angle of embeddings
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.fsp  # 2017, how a stage follows from the one before
import kdframe.distillers.ft  # 2018, factors of the last map
import kdframe.distillers.hard_label  # 2021, the teacher's decision as the label
import kdframe.distillers.ickd  # 2021, which channels are alike
import kdframe.distillers.irg  # 2019, a graph of the images
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.kd_ensemble  # 2015, several teachers' soft labels
import kdframe.distillers.logit_mse  # 2014, the logits themselves
import kdframe.distillers.mgd  # 2022, the maps from masked ones
import kdframe.distillers.mlkd  # 2023, soft labels, and which images and classes go together
import kdframe.distillers.nkd  # 2023, the label's belief and the others' ranking
import kdframe.distillers.normkd  # 2023, soft labels, each image at its own temperature
import kdframe.distillers.nst  # 2017, the patterns that channels respond to
import kdframe.distillers.ofa  # 2023, soft labels with the label enhanced
import kdframe.distillers.ofa_stages  # 2023, heads at the student's stages
import kdframe.distillers.ofd  # 2019, maps before the activation, above a margin
import kdframe.distillers.pkd  # 2022, the maps up to scale and shift
import kdframe.distillers.pkt  # 2018, who is whose neighbour
import kdframe.distillers.reviewkd  # 2021, maps fused from deep to shallow
import kdframe.distillers.rkd  # 2019, distances and angles
import kdframe.distillers.rld  # 2024, soft labels less what the teacher gets wrong
import kdframe.distillers.sdd  # 2024, soft labels of the image's parts
import kdframe.distillers.semckd  # 2020, every stage with every stage, by attention
import kdframe.distillers.simkd  # 2022, the teacher's classifier reused
import kdframe.distillers.soft_target_ce  # 2015, soft labels as a cross entropy
import kdframe.distillers.sp  # 2019, which images are alike
import kdframe.distillers.srrl  # 2021, features right for the teacher's classifier
import kdframe.distillers.tfkd  # 2020, soft labels without a teacher
import kdframe.distillers.ttm  # 2024, soft labels by a student that isn't softened
import kdframe.distillers.uskd  # 2023, the student's own soft labels; no teacher
import kdframe.distillers.vid  # 2019, the maps, sure of some channels
import kdframe.distillers.vkd  # 2024, embeddings through a rotation
import kdframe.distillers.wkd_l  # 2024, probabilities moved between like classes
import kdframe.distillers.wsld  # 2021, soft labels weighed by image
import kdframe.distillers.wttm  # 2024, ttm, the more where the teacher is unsure
